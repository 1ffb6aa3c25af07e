-- The judge cards that stood behind a ranking, one a trait; empty in runs without them.
ALTER TABLE rankings ADD COLUMN cards VARCHAR[] DEFAULT [];

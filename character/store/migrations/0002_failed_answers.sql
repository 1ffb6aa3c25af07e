-- An answer that never came is told from an empty one.
ALTER TABLE answers ADD COLUMN failure VARCHAR DEFAULT '';

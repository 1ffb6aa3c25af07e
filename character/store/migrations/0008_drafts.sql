-- What the writer wrote and what it was made from, so that another version of a trait can use it.
CREATE TABLE drafts (
    id VARCHAR PRIMARY KEY, ground VARCHAR NOT NULL, trait VARCHAR NOT NULL, kind VARCHAR NOT NULL,
    clause VARCHAR NOT NULL, topic VARCHAR NOT NULL, register VARCHAR NOT NULL,
    text VARCHAR NOT NULL, finish VARCHAR NOT NULL, round INTEGER NOT NULL
);
-- The query that a reply's relevance was held against; empty in runs that did not say.
ALTER TABLE judgements ADD COLUMN foil VARCHAR DEFAULT '';

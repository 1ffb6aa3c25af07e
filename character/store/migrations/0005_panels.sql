-- How far the members of a panel of judges were apart about a reply; NULL with one judge.
ALTER TABLE judgements ADD COLUMN spread DOUBLE;

-- In which round of the build a query was written; 0 is the first.
ALTER TABLE queries ADD COLUMN round INTEGER DEFAULT 0;

-- Texts that the policy learns from word for word, beside replies: see the classes in rows.py.
CREATE TABLE revisions (
    id VARCHAR PRIMARY KEY, reply_id VARCHAR NOT NULL, revised_id VARCHAR NOT NULL,
    trait VARCHAR NOT NULL, clause VARCHAR NOT NULL, writer VARCHAR NOT NULL,
    critique VARCHAR NOT NULL, text VARCHAR NOT NULL, failure VARCHAR NOT NULL
);
CREATE TABLE talks (
    id VARCHAR PRIMARY KEY, kind VARCHAR NOT NULL, trait VARCHAR NOT NULL, clause VARCHAR NOT NULL,
    guidance VARCHAR NOT NULL, model VARCHAR NOT NULL, turns VARCHAR[] NOT NULL,
    ended BOOLEAN NOT NULL, failure VARCHAR NOT NULL
);
CREATE TABLE documents (
    id VARCHAR PRIMARY KEY, type VARCHAR NOT NULL, idea VARCHAR NOT NULL, trait VARCHAR NOT NULL,
    clause VARCHAR NOT NULL, writer VARCHAR NOT NULL, text VARCHAR NOT NULL,
    tokens INTEGER NOT NULL, ended BOOLEAN NOT NULL, failure VARCHAR NOT NULL
);

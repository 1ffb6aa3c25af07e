-- One table a row class of character/rows.py; `stages` says which stages have finished.
CREATE TABLE queries (
    id VARCHAR PRIMARY KEY, text VARCHAR NOT NULL, kind VARCHAR NOT NULL, trait VARCHAR NOT NULL,
    clause VARCHAR NOT NULL, topic VARCHAR NOT NULL, register VARCHAR NOT NULL,
    source VARCHAR NOT NULL, cluster INTEGER NOT NULL, split VARCHAR NOT NULL,
    dropped VARCHAR NOT NULL
);
CREATE TABLE replies (
    id VARCHAR PRIMARY KEY, query_id VARCHAR NOT NULL, style VARCHAR NOT NULL,
    trait VARCHAR NOT NULL, sample INTEGER NOT NULL, seed BIGINT NOT NULL, model VARCHAR NOT NULL,
    text VARCHAR NOT NULL, tokens INTEGER NOT NULL, ended BOOLEAN NOT NULL,
    flaws VARCHAR[] NOT NULL
);
CREATE TABLE judgements (
    id VARCHAR PRIMARY KEY, reply_id VARCHAR NOT NULL, trait VARCHAR NOT NULL,
    judge VARCHAR NOT NULL, contrast DOUBLE, checks DOUBLE, relevance DOUBLE,
    failed VARCHAR NOT NULL
);
CREATE TABLE rankings (
    id VARCHAR PRIMARY KEY, query_id VARCHAR NOT NULL, judge VARCHAR NOT NULL,
    tiers VARCHAR[][] NOT NULL, tier_values DOUBLE[] NOT NULL, below_floor VARCHAR[] NOT NULL,
    missing VARCHAR[] NOT NULL
);
CREATE TABLE pairs (
    id VARCHAR PRIMARY KEY, query_id VARCHAR NOT NULL, ranking_id VARCHAR NOT NULL,
    chosen_id VARCHAR NOT NULL, rejected_id VARCHAR NOT NULL, margin DOUBLE NOT NULL,
    probability DOUBLE NOT NULL, split VARCHAR NOT NULL
);
CREATE TABLE rewards (
    id VARCHAR PRIMARY KEY, pair_id VARCHAR NOT NULL, chosen DOUBLE NOT NULL,
    rejected DOUBLE NOT NULL
);
CREATE TABLE steps (
    id VARCHAR PRIMARY KEY, stage VARCHAR NOT NULL, step INTEGER NOT NULL,
    metric VARCHAR NOT NULL, value DOUBLE NOT NULL
);
CREATE TABLE answers (
    id VARCHAR PRIMARY KEY, subject VARCHAR NOT NULL, query_id VARCHAR NOT NULL,
    prompt VARCHAR NOT NULL, text VARCHAR NOT NULL, tokens INTEGER NOT NULL, ended BOOLEAN NOT NULL
);
CREATE TABLE measurements (
    id VARCHAR PRIMARY KEY, answer_id VARCHAR NOT NULL, subject VARCHAR NOT NULL,
    query_id VARCHAR NOT NULL, metric VARCHAR NOT NULL, value DOUBLE
);
CREATE TABLE stages (
    name VARCHAR PRIMARY KEY, seconds DOUBLE NOT NULL, peak_bytes BIGINT NOT NULL,
    rows_made BIGINT NOT NULL
);

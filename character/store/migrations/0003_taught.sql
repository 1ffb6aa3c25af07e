-- What the policy learned from, so that an effect leads back to the rows behind it.
CREATE TABLE taught (
    id VARCHAR PRIMARY KEY, stage VARCHAR NOT NULL, learned_id VARCHAR NOT NULL,
    weight DOUBLE NOT NULL
);

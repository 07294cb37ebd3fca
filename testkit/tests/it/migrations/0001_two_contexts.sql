CREATE SCHEMA kernel;
CREATE SCHEMA identity;
CREATE SCHEMA mesh;
CREATE TABLE kernel.outbox (seq bigserial PRIMARY KEY, body text NOT NULL);
CREATE TABLE kernel.lease (name text PRIMARY KEY);
CREATE TABLE identity.principal (id bigserial PRIMARY KEY, name text NOT NULL);
CREATE TABLE mesh.peer (id bigserial PRIMARY KEY);

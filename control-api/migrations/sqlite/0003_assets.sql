-- The root of the files that a deployment may read, if it has any.
alter table deployments add column assets_cid text;

-- Bytes of all blocks of a site's deployment, each once. None: it is from before this was written down, and its files' bytes count.
alter table site_deployments add column stored_bytes bigint;

-- What waits for an approval is left out where deployments are counted. Without this, all of a project would be read for it.
create index deployments_waiting on deployments (function_id) where widens is not null and approver_id is null;

-- A function needs three: what it runs, what a rollback leads to, and one that is tried. Plans with less are refused from now on.
update plans set function_deployments = 3 where function_deployments < 3;
update plans set project_deployments = 3 where project_deployments < 3;

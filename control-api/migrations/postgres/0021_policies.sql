-- Which deployments a function keeps: so many of the newest, and all that are younger; null: what its project says, and where that says nothing,
-- the platform's default.
alter table functions add column keep_newest bigint check (keep_newest > 0);
alter table functions add column keep_for_seconds bigint check (keep_for_seconds >= 0);
alter table projects add column keep_newest bigint check (keep_newest > 0);
alter table projects add column keep_for_seconds bigint check (keep_for_seconds >= 0);

-- When it became the active one, last. Of what is from before that is not known: what did not wait for an approval, up to what is active, is taken
-- to have been, so that a rollback leads to the number before, as it did.
alter table deployments add column activated_at bigint;
update deployments set activated_at = created_at where (widens is null or approver_id is not null) and number <=
  (select c.number from functions f join deployments c on c.id = f.current_deployment_id where f.id = deployments.function_id);

-- When a function began to run it last, milliseconds, in the order of what happened; none: never, or before this was written down.
alter table deployments add column activated_at bigint;

-- When a project was last given another key, milliseconds.
alter table project_keys add column rotated_at bigint;

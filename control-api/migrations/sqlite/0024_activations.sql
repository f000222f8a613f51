-- When a project was last given another key, milliseconds.
alter table project_keys add column rotated_at integer;

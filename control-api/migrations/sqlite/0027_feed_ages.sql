-- When a thing changed last, milliseconds: what has been gone for long is forgotten. What was there before counts as old.
alter table feed add column changed_at integer not null default 0;

-- The newest revision of what was forgotten: who knows less is told all anew.
alter table feed_keys add column compacted integer not null default 0;

-- Of the program that the edge runs, as it says itself.
alter table edges add column version text;

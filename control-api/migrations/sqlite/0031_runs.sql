-- Which server has a run, until when that is believed to be at work, and which edge of its own was given the call. None and 0: the
-- run is from before this was written down.
alter table trigger_runs add column server text;
alter table trigger_runs add column leased_until integer not null default 0;
alter table trigger_runs add column edge_id text;

-- Places from which nothing can be removed, and what places say of what they hold.
alter table placements drop constraint placements_state_check;
-- LEFT: nobody wants it there any more, and it stays.
alter table placements add constraint placements_state_check
  check (state in ('QUEUED', 'PINNING', 'PINNED', 'FAILED', 'REMOVING', 'LEFT'));
-- What the place says of it, for people.
alter table placements add column detail text;
-- Whether it can be removed there no more.
alter table placements add column permanent bigint not null default 0;

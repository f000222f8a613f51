-- Places from which nothing can be removed, and what places say of what they hold.
create table placements_new (
  cid text not null,
  place text not null,
  -- LEFT: nobody wants it there any more, and it stays.
  state text not null check (state in ('QUEUED', 'PINNING', 'PINNED', 'FAILED', 'REMOVING', 'LEFT')),
  -- What the place calls it.
  request text,
  -- What the place says of it, for people.
  detail text,
  -- Whether it can be removed there no more.
  permanent integer not null default 0,
  -- In a row that failed, or that found it on its way.
  attempts integer not null default 0,
  -- What the last attempt found amiss.
  error text,
  -- When it is looked at next.
  next_at integer not null,
  updated_at integer not null,
  primary key (cid, place)
) strict, without rowid;

insert into placements_new (cid, place, state, request, attempts, error, next_at, updated_at)
  select cid, place, state, request, attempts, error, next_at, updated_at from placements;

drop table placements;
alter table placements_new rename to placements;

create index placements_due on placements (place, next_at);

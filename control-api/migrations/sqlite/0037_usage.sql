-- What functions and sites used, by the hour of UTC in which they did, milliseconds.
create table usage_hours (
  subject text not null,
  hour integer not null,
  requests integer not null,
  errors integer not null,
  cpu_us integer not null,
  wall_us integer not null,
  sent_bytes integer not null,
  primary key (subject, hour)
) strict, without rowid;

create index usage_hours_by_hour on usage_hours (hour);

-- The same by days, and of projects and organizations what all that is or was theirs used. No row refers to another: what is gone has
-- used what it has used. Of a function or a site, whose it is: what edges tell of it later counts there, too.
create table usage_days (
  subject text not null,
  day integer not null,
  project_id text,
  organization_id text,
  requests integer not null,
  errors integer not null,
  cpu_us integer not null,
  wall_us integer not null,
  sent_bytes integer not null,
  primary key (subject, day)
) strict, without rowid;

create index usage_days_by_day on usage_days (day);

-- The number of the last batch that was taken of each start of an edge: each batch counts once.
create table usage_sources (
  edge text not null,
  source text not null,
  number integer not null,
  taken_at integer not null,
  primary key (edge, source)
) strict, without rowid;

create index usage_sources_by_taken on usage_sources (taken_at);

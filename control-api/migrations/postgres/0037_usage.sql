-- What functions and sites used, by the hour of UTC in which they did, milliseconds.
create table usage_hours (
  subject text collate "C" not null,
  hour bigint not null,
  requests bigint not null,
  errors bigint not null,
  cpu_us bigint not null,
  wall_us bigint not null,
  sent_bytes bigint not null,
  primary key (subject, hour)
);

create index usage_hours_by_hour on usage_hours (hour);

-- The same by days, and of projects and organizations what all that is or was theirs used. No row refers to another: what is gone has
-- used what it has used. Of a function or a site, whose it is: what edges tell of it later counts there, too.
create table usage_days (
  subject text collate "C" not null,
  day bigint not null,
  project_id text collate "C",
  organization_id text collate "C",
  requests bigint not null,
  errors bigint not null,
  cpu_us bigint not null,
  wall_us bigint not null,
  sent_bytes bigint not null,
  primary key (subject, day)
);

create index usage_days_by_day on usage_days (day);

-- The number of the last batch that was taken of each start of an edge: each batch counts once.
create table usage_sources (
  edge text collate "C" not null,
  source text collate "C" not null,
  number bigint not null,
  taken_at bigint not null,
  primary key (edge, source)
);

create index usage_sources_by_taken on usage_sources (taken_at);

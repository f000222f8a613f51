-- What a private pin's files are encrypted with, sealed with its project's key. Pins that are not private have none.
create table pin_keys (
  pin_id text primary key references pins (id) on delete cascade,
  sealed blob not null
) strict, without rowid;

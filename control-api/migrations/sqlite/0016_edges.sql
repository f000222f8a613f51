-- The key that the feed is signed with, and which history its revisions are of: a restored database begins another one.
create table feed_keys (
  id text primary key check (id = 'feed'),
  epoch text not null,
  public blob not null,
  sealed blob not null,
  created_at integer not null
) strict;

-- Edges that take their routes over HTTP. Without a public key: nobody has joined with the token yet.
create table edges (
  id text primary key,
  name text not null unique,
  public_key blob,
  join_sealed blob,
  join_expires_at integer not null,
  created_at integer not null,
  joined_at integer,
  seen_at integer,
  revision integer not null default 0
) strict;

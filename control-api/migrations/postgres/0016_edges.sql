-- The key that the feed is signed with, and which history its revisions are of: a restored database begins another one.
create table feed_keys (
  id text collate "C" primary key check (id = 'feed'),
  epoch text not null,
  public bytea not null,
  sealed bytea not null,
  created_at bigint not null
);

-- Edges that take their routes over HTTP. Without a public key: nobody has joined with the token yet.
create table edges (
  id text collate "C" primary key,
  name text not null unique,
  public_key bytea,
  join_sealed bytea,
  join_expires_at bigint not null,
  created_at bigint not null,
  joined_at bigint,
  seen_at bigint,
  revision bigint not null default 0
);

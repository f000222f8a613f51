-- Terminals that ask to be signed in. Whoever approves one is its user from then on; its token is made when the terminal comes
-- for it, once, so that no secret of one is here. Without the token that approved it, it is gone.
create table logins (
  id text primary key,
  session_hash blob not null unique,
  secret_hash blob not null,
  code text not null unique,
  name text not null,
  address text,
  network text,
  user_id text references users (id) on delete cascade,
  token_id text references tokens (id) on delete cascade,
  token_expires_at integer,
  created_at integer not null,
  expires_at integer not null,
  used_at integer
) strict;

create index logins_by_age on logins (created_at);
create index logins_by_network on logins (network) where network is not null;
create index logins_by_token on logins (token_id) where token_id is not null;

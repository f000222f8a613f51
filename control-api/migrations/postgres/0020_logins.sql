-- Terminals that ask to be signed in. Whoever approves one is its user from then on; its token is made when the terminal comes
-- for it, once, so that no secret of one is here. Without the token that approved it, it is gone.
create table logins (
  id text collate "C" primary key,
  session_hash bytea not null unique,
  secret_hash bytea not null,
  code text not null unique,
  name text not null,
  address text,
  network text,
  user_id text collate "C" references users (id) on delete cascade,
  token_id text collate "C" references tokens (id) on delete cascade,
  token_expires_at bigint,
  created_at bigint not null,
  expires_at bigint not null,
  used_at bigint
);

create index logins_by_age on logins (created_at);
create index logins_by_network on logins (network) where network is not null;
create index logins_by_token on logins (token_id) where token_id is not null;

-- Who did what: written in the transaction of the change that it tells of, and never changed. It refers to things that
-- may be gone, so it has no foreign keys.
create table audit (
  id text primary key,
  at integer not null,
  user_id text not null,
  token_id text not null,
  action text not null,
  outcome text not null check (outcome in ('done', 'refused')),
  target text not null,
  project_id text,
  organization_id text,
  address text,
  request_id text
) strict;

create index audit_by_project on audit (project_id, id) where project_id is not null;
create index audit_by_organization on audit (organization_id, id) where organization_id is not null;
create index audit_by_user on audit (user_id, id);

create trigger audit_stays before update on audit
  begin select raise(abort, 'the audit log is only added to'); end;
create trigger audit_stays_whole before delete on audit
  begin select raise(abort, 'the audit log is only added to'); end;

-- Answers to requests with an Idempotency-Key. status is null while the first one is at work. The answer is sealed: it may
-- show a token.
create table idempotency_keys (
  token_id text not null,
  key text not null,
  fingerprint blob not null,
  status integer,
  content_type text,
  answer blob,
  created_at integer not null,
  primary key (token_id, key)
) strict, without rowid;

create index idempotency_keys_by_age on idempotency_keys (created_at);

-- What short-lived tokens are signed with.
create table signing_keys (
  id text primary key,
  public blob not null,
  sealed blob not null,
  created_at integer not null
) strict;

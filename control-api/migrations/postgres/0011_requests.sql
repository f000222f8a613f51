-- Who did what: written in the transaction of the change that it tells of, and never changed. It refers to things that
-- may be gone, so it has no foreign keys.
create table audit (
  id text collate "C" primary key,
  at bigint not null,
  user_id text collate "C" not null,
  token_id text collate "C" not null,
  action text not null,
  outcome text not null check (outcome in ('done', 'refused')),
  target text collate "C" not null,
  project_id text collate "C",
  organization_id text collate "C",
  address text collate "C",
  request_id text collate "C"
);

create index audit_by_project on audit (project_id, id) where project_id is not null;
create index audit_by_organization on audit (organization_id, id) where organization_id is not null;
create index audit_by_user on audit (user_id, id);

create function audit_stays() returns trigger language plpgsql as $$
begin
  raise exception 'the audit log is only added to';
end $$;

create trigger audit_stays before update or delete on audit
  for each row execute function audit_stays();

-- Answers to requests with an Idempotency-Key. status is null while the first one is at work. The answer is sealed: it may
-- show a token.
create table idempotency_keys (
  token_id text collate "C" not null,
  key text collate "C" not null,
  fingerprint bytea not null,
  status bigint,
  content_type text collate "C",
  answer bytea,
  created_at bigint not null,
  primary key (token_id, key)
);

create index idempotency_keys_by_age on idempotency_keys (created_at);

-- What short-lived tokens are signed with.
create table signing_keys (
  id text collate "C" primary key,
  public bytea not null,
  sealed bytea not null,
  created_at bigint not null
);

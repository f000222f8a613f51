-- What edges say of a deployment since it was last made active or a candidate; none: it never was, or that was before this was asked.
-- 'READY' once one edge can use it. The reason is that of the last edge that could not.
alter table deployments add column reported text collate "C" check (reported in ('DEPLOYING', 'READY', 'FAILED'));
alter table deployments add column report_reason text collate "C";
alter table deployments add column report_edge text collate "C";

create index deployments_awaited on deployments (function_id) where reported = 'DEPLOYING';
create index deployments_by_report_edge on deployments (report_edge) where report_edge is not null;

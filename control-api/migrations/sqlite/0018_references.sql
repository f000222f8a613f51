-- What refers to a row that is deleted is looked for then: without these, in all functions and sites.
create index functions_by_current_deployment on functions (current_deployment_id)
  where current_deployment_id is not null;
create index sites_by_current_deployment on sites (current_deployment_id)
  where current_deployment_id is not null;

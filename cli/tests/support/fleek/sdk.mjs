// A session with the published SDK of Fleek: node sdk.mjs TOKEN PROJECT COMPONENT, with its URLs in the environment. Prints
// JSON of what it was told.
import { readFileSync, writeFileSync, mkdtempSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FleekSdk, PersonalAccessTokenService } from '@fleek-platform/sdk/node';

const [personalAccessToken, projectId, component] = process.argv.slice(2);
const sdk = new FleekSdk({ accessTokenService: new PersonalAccessTokenService({ personalAccessToken, projectId }) });
const told = {};
const error = (promise) => promise.then(() => null, (error) => ({ name: error.name, text: error.toString() }));
const dir = mkdtempSync(join(tmpdir(), 'fleek-sdk-'));

told.version = (await sdk.getVersion()).version.commitHash;
told.projects = (await sdk.projects().list()).map(({ id }) => id);
told.project = await sdk.projects().get({ id: projectId });
const other = await sdk.projects().create({ name: 'another' });
told.renamed = (await sdk.projects().update({ where: { id: other.id }, data: { name: 'renamed' } })).name;
told.noProject = await error(sdk.projects().get({ id: 'prj_none' }));

told.created = await sdk.functions().create({ name: 'from-sdk' });
told.taken = await error(sdk.functions().create({ name: 'from-sdk' }));
told.bad = await error(sdk.functions().create({ name: 'x' }));
const bytes = readFileSync(component);
const file = { name: 'function.wasm', size: bytes.length, stream: () => new Blob([bytes]).stream() };
told.uploaded = await sdk.storage().uploadFile({ file, options: { functionName: 'from-sdk' } });
told.again = await sdk.storage().uploadFile({ file });
mkdirSync(join(dir, 'assets'));
writeFileSync(join(dir, 'assets', 'one.txt'), 'one');
writeFileSync(join(dir, 'assets', 'two.txt'), 'two');
told.assets = await sdk.storage().uploadDirectory({ path: join(dir, 'assets'), options: { functionName: 'from-sdk' } });
told.deployed = await sdk.functions().deploy({
  functionId: told.created.id,
  cid: told.uploaded.pin.cid,
  assetsCid: told.assets.pin.cid,
});
told.function = await sdk.functions().get({ name: 'from-sdk' });
told.functions = (await sdk.functions().list()).map(({ name }) => name);
told.deployments = await sdk.functions().listDeployments({ functionId: told.created.id });
told.noContent = await error(sdk.functions().deploy({
  functionId: told.created.id,
  cid: 'bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e',
}));

// More than one shard of 10 MiB.
const large = Buffer.alloc(25 << 20, 'large');
told.large = await sdk.storage().uploadFile({
  file: { name: 'large.bin', size: large.length, stream: () => new Blob([large]).stream() },
});
writeFileSync(join(dir, 'private.js'), 'export const main = () => "private";');
told.private = await sdk.storage().uploadPrivateFile({ filePath: join(dir, 'private.js') });
told.pin = await sdk.storage().get({ cid: told.private.pin.cid });
told.pins = (await sdk.storage().list()).map(({ filename, extension }) => `${filename}.${extension}`).sort();
told.byName = (await sdk.storage().getByFilename({ filename: 'large', extension: 'bin' })).map(({ cid }) => cid);
told.deleted = (await sdk.storage().delete({ cid: told.large.pin.cid })).status;
told.noPin = await error(sdk.storage().get({ cid: told.large.pin.cid }));

const site = await sdk.sites().create({ name: 'from-sdk-site' });
told.site = await sdk.sites().getBySlug({ slug: 'from-sdk-site' });
told.siteDeployed = await sdk.sites().createCustomIpfsDeployment({ siteId: site.id, cid: told.assets.pin.cid });
told.siteDeployment = await sdk.sites().getDeployment({ id: told.siteDeployed.id });
told.noSiteContent = await error(sdk.sites().createCustomIpfsDeployment({
  siteId: site.id,
  cid: 'bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e',
}));
const zone = await sdk.domains().createZoneForSite({ siteId: site.id });
told.zone = await sdk.domains().getZone({ id: zone.id });
told.domain = await sdk.domains().createDomain({ zoneId: zone.id, hostname: 'sdk.example.com' });
told.domains = await sdk.domains().list();
told.byZone = (await sdk.domains().listByZoneId({ zoneId: zone.id })).length;
told.byHostname = (await sdk.domains().getByHostname({ hostname: 'sdk.example.com' })).id;
await sdk.domains().deleteDomain({ domainId: told.domain.id });
told.noDomain = await error(sdk.domains().get({ domainId: told.domain.id }));
await sdk.sites().delete({ id: site.id });

told.tokens = await sdk.user().listPersonalAccessTokens();
told.noToken = await error(sdk.user().deletePersonalAccessToken({ id: 'tok_none' }));
told.updated = await sdk.functions().update({ id: told.created.id, slug: 'sdk-slug', status: 'INACTIVE' });
told.gone = await sdk.functions().delete({ id: told.created.id });
told.noFunction = await error(sdk.functions().get({ name: 'from-sdk' }));

const nobody = new FleekSdk({
  accessTokenService: new PersonalAccessTokenService({ personalAccessToken: 'af_live_of_nobody' }),
});
told.nobody = await error(nobody.projects().list());
console.log(JSON.stringify(told));
process.exit(0);

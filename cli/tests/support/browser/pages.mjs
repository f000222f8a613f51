// Drives a real browser through the control API's pages: node pages.mjs BROWSER STEP ARGUMENTS…
// Prints JSON: what it saw.
import { createServer } from 'node:http';
import { once } from 'node:events';
import AxeBuilder from '@axe-core/playwright';
import { chromium } from 'playwright-core';

const [executablePath, step, ...rest] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });

// A browser that nobody has used yet, and what it says against a page or asks of others than that page's server.
async function visitor(origin, options = {}) {
  const context = await browser.newContext(options);
  const complaints = [];
  context.on('console', (said) => { if (said.type() !== 'log') complaints.push(said.text()); });
  context.on('weberror', (thrown) => complaints.push(String(thrown.error())));
  context.on('request', (request) => { if (new URL(request.url()).origin !== origin) complaints.push(`asks ${request.url()}`); });
  return { context, page: await context.newPage(), complaints };
}

// What axe finds, and whether the colours are readable in the dark scheme, too.
async function findings(page) {
  const found = [];
  for (const [colorScheme, rules] of [['light', []], ['dark', ['color-contrast']]]) {
    await page.emulateMedia({ colorScheme });
    const axe = new AxeBuilder({ page });
    if (rules.length) axe.withRules(rules);
    const { violations } = await axe.analyze();
    found.push(...violations.map(({ id, nodes }) => `${colorScheme}: ${id}: ${nodes[0].html.slice(0, 200)}`));
  }
  return [...found, ...await tooWide(page)];
}

// Whether one has to scroll to the side on a telephone.
async function tooWide(page) {
  const size = page.viewportSize();
  await page.setViewportSize({ width: 360, height: 640 });
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  await page.setViewportSize(size);
  return width > 360 ? [`it is ${width} wide on a telephone`] : [];
}

async function docs(api) {
  const origin = new URL(api).origin;
  const { context, page, complaints } = await visitor(origin);
  await page.goto(`${api}/docs`);
  await page.locator('main details').first().waitFor();
  const document = await (await fetch(`${api}/openapi.json`)).json();
  const methods = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.keys(item).filter((key) => ['get', 'post', 'put', 'patch', 'delete'].includes(key)).map((method) => `${method.toUpperCase()}${path} `));
  const shown = await page.locator('main summary:has(.method)').allTextContents();
  const missing = methods.filter((operation) => !shown.some((summary) => summary.startsWith(operation)));

  // With the keyboard alone, and by a link.
  const operation = page.locator('main details:has(a[href^="#schema-"])').first();
  await operation.locator('summary').focus();
  await page.keyboard.press('Enter');
  const byKeyboard = await operation.evaluate((details) => details.open);
  const link = operation.locator('a[href^="#schema-"]').first();
  const schema = page.locator((await link.getAttribute('href')).replace(/[^#\w-]/g, ''));
  await link.click();
  await page.waitForFunction((id) => document.getElementById(id).open, (await schema.getAttribute('id')));
  const inView = await schema.evaluate((details) => details.getBoundingClientRect().top < innerHeight);
  const unfold = (page) => page.evaluate(() => document.querySelectorAll('details').forEach((details) => { details.open = true; }));
  await unfold(page);
  const found = await tooWide(page);
  // All operations would take axe minutes, and they are alike.
  const some = (all) => Object.fromEntries(Object.entries(all).slice(0, 12));
  const json = { ...document, paths: some(document.paths), components: { ...document.components, schemas: some(document.components.schemas) } };
  const shorter = await context.newPage();
  await shorter.route('**/openapi.json', (route) => route.fulfill({ json }));
  await shorter.goto(`${api}/docs`);
  await shorter.locator('main details').first().waitFor();
  await unfold(shorter);
  found.push(...await findings(shorter));
  const quiet = [...complaints];

  // That what is amiss would be heard.
  const said = page.waitForEvent('console');
  await page.evaluate(() => { document.body.append(Object.assign(document.createElement('img'), { src: 'http://127.0.0.1:1/' })); });
  await said;
  const heard = complaints.length > quiet.length;

  const failing = await context.newPage();
  await failing.route('**/openapi.json', (route) => route.fulfill({ status: 503 }));
  await failing.goto(`${api}/docs`);
  const sorry = failing.getByText('cannot be shown: it answers 503');
  await sorry.waitFor();
  const plain = await visitor(origin, { javaScriptEnabled: false });
  await plain.page.goto(`${api}/docs`);
  const withoutScript = await plain.page.locator('noscript').textContent();
  return { operations: methods.length, missing, found, byKeyboard, inView, complaints: quiet, heard, withoutScript };
}

// Pages of others in the same browser, of another port and of another site, that try to sign the terminal in as themselves.
async function attack(page, url, token) {
  const api = new URL(url).origin;
  const html = `<!doctype html><title>a game</title>
<iframe name="framed" src="${url}"></iframe>
<form method="post" action="${url}"><input name="token" value="${token}"><button>Play</button></form>
<iframe sandbox="allow-forms allow-scripts" srcdoc='<form method="post" action="${url}"><input name="token" value="${token}"></form><script>document.forms[0].submit()</script>'></iframe>`;
  const server = createServer((_, response) => response.setHeader('content-type', 'text/html').end(html)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  const told = {};
  for (const host of ['127.0.0.1', 'a-game.localhost']) {
    const sent = [];
    const note = (response) => { if (response.request().method() === 'POST') sent.push(response.status()); };
    page.on('response', note);
    const nested = page.waitForResponse((response) => response.request().method() === 'POST');
    await page.goto(`http://${host}:${port}`);
    await nested;
    const framed = page.frame('framed');
    await framed.waitForLoadState();
    const forms = await framed.locator('form').count();
    const scripts = await page.evaluate(async ([url, api, token]) => {
      const body = new URLSearchParams({ token });
      const tried = {
        form: () => fetch(url, { method: 'POST', mode: 'no-cors', credentials: 'include', body }),
        page: () => fetch(url),
        me: () => fetch(`${api}/v1/me`, { headers: { authorization: `Bearer ${token}` } }),
      };
      const told = {};
      for (const [name, request] of Object.entries(tried)) told[name] = await request().then((answer) => answer.type, () => 'refused');
      return told;
    }, [url, api, token]);
    await page.getByRole('button', { name: 'Play' }).click();
    await page.getByText('sent by another site').waitFor();
    page.off('response', note);
    told[host] = { sent, forms, scripts };
  }
  server.close();
  return told;
}

async function login(url, token, narrow, mine) {
  const origin = new URL(url).origin;
  const { context, page, complaints } = await visitor(origin);
  const answer = await page.goto(url);
  const headers = await answer.allHeaders();
  const text = await page.locator('body').innerText();
  const found = await findings(page);
  const before = complaints.splice(0);
  const attacked = await attack(await context.newPage(), url, mine);
  complaints.length = 0;

  await page.goto(url);
  const tries = {};
  for (const [name, wrong] of Object.entries({ none: 'af_live_of_nobody', narrow })) {
    await page.getByLabel('A token of yours').fill(wrong);
    await page.getByRole('button', { name: 'Sign the terminal in' }).click();
    tries[name] = await page.getByRole('alert').innerText();
    if (name === 'none') found.push(...await findings(page));
  }
  const kept = await page.getByLabel('A token of yours').inputValue();
  // With the keyboard alone.
  await page.keyboard.press('Tab');
  const focused = await page.evaluate(() => document.activeElement.name);
  await page.keyboard.type(token);
  await page.keyboard.press('Enter');
  await page.getByText('is signed in in a moment').waitFor();
  found.push(...await findings(page));
  const stored = await page.evaluate(() => localStorage.length + sessionStorage.length);
  const cookies = await context.cookies();
  const address = page.url();
  const done = await page.locator('body').innerHTML();
  await page.goto(url);
  const used = await page.locator('body').innerText();
  await page.goto(url.slice(0, -1));
  const wrong = await page.locator('body').innerText();
  found.push(...await findings(page));
  // Chromium tells of every answer that is an error; no other complaint is expected.
  const rest = complaints.filter((said) => !/responded with a status of 40[34]/.test(said));
  return { headers, text, found, attacked, tries, kept, focused, stored, cookies, address, showsToken: done.includes(token), used, wrong, complaints: [...before, ...rest] };
}

const steps = { docs, login };
try {
  console.log(JSON.stringify(await steps[step](...rest)));
} finally {
  await browser.close();
}

// Looks at report pages in Chromium, without network: axe-core's rules, contrast of charts, width, print, keyboard.
// node look.cjs CHROMIUM FOLDER NAME=PAGE ... [live=PAGE]; prints what is wrong, one line each, and exits with 1.
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { pathToFileURL } = require("node:url");
const puppeteer = require("puppeteer-core");

const AXE = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const LOOKS = [
  { name: "desk", width: 1280, scheme: "light" },
  { name: "dark", width: 1280, scheme: "dark" },
  { name: "tablet", width: 900, scheme: "light" },
  { name: "phone", width: 390, scheme: "light" },
  { name: "phone-dark", width: 390, scheme: "dark" },
];
const LIVE_MS = 20000;
const problems = [];

// Letters of charts need 4.5 to 1 against their card, shapes 3 to 1 (WCAG 2.2, 1.4.3 and 1.4.11); axe sees HTML only.
const chartContrast = () => {
  const light = (colour) => {
    const part = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
    const [red, green, blue] = colour.match(/[\d.]+/g).map(Number);
    return 0.2126 * part(red) + 0.7152 * part(green) + 0.0722 * part(blue);
  };
  const found = new Set();
  for (const shape of document.querySelectorAll("svg text, svg rect:not(.hit), svg polygon:not(.f-band), svg polyline")) {
    const card = shape.closest(".card") ?? document.body;
    const style = getComputedStyle(shape);
    const drawn = style.fill === "none" ? style.stroke : style.fill;
    const [low, high] = [light(drawn), light(getComputedStyle(card).backgroundColor)].sort((one, other) => one - other);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < (shape.tagName === "text" ? 4.5 : 3)) {
      found.add(`${shape.tagName}.${shape.getAttribute("class") ?? ""} ${drawn}: ${ratio.toFixed(2)} to 1`);
    }
  }
  return [...found];
};

const open = async (browser, file, look) => {
  const page = await browser.newPage();
  page.on("console", (message) => problems.push(`${file}: console: ${message.text()}`));
  page.on("request", (request) => {
    if (!request.url().startsWith("file:")) problems.push(`${file}: asks the network for ${request.url()}`);
  });
  await page.setOfflineMode(true);
  await page.setViewport({ width: look.width, height: 900, isMobile: look.width < 500 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: look.scheme }]);
  await page.goto(pathToFileURL(file));
  return page;
};

const look = async (browser, folder, name, file) => {
  for (const one of LOOKS) {
    const at = `${name} ${one.name}`;
    const page = await open(browser, file, one);
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
    for (const { id, nodes } of violations) problems.push(`${at}: axe ${id}: ${nodes[0].html.slice(0, 120)}`);
    for (const found of await page.evaluate(chartContrast)) problems.push(`${at}: contrast of ${found}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    if (wide > one.width) problems.push(`${at}: ${wide} pixels wide on a screen of ${one.width}`);
    if (one.name === "desk") await keyboard(page, at);
    await page.screenshot({ path: path.join(folder, `${name}-${one.name}.png`), fullPage: true });
    await page.close();
  }
  const page = await open(browser, file, LOOKS[1]);
  await page.emulateMediaType("print");
  const shown = await page.evaluate(() => [...document.querySelectorAll("button, input, select")].filter((one) => one.checkVisibility() && one.closest(".tools, .more")).length);
  if (shown) problems.push(`${name} print: ${shown} controls are printed`);
  const ink = await page.evaluate(() => [getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor].join());
  if (ink !== "rgb(0, 0, 0),rgb(255, 255, 255)") problems.push(`${name} print: not black on white, but ${ink}`);
  await page.pdf({ path: path.join(folder, `${name}.pdf`), format: "A4", preferCSSPageSize: true });
  await page.setViewport({ width: 690, height: 1000 });
  const reason = await page.evaluate(() => document.querySelector("#failures .c-said")?.offsetWidth ?? 690);
  if (reason < 150) problems.push(`${name} print: the reasons are ${reason} pixels wide`);
  await page.screenshot({ path: path.join(folder, `${name}-print.png`), fullPage: true });
  await page.close();
};

// Tab reaches every control in the order of the page, each with a visible outline, and Enter sorts.
const keyboard = async (page, at) => {
  const wanted = await page.evaluate(() =>
    [...document.querySelectorAll("input, select, button")].filter((one) => one.checkVisibility()).map((one) => one.id || one.textContent));
  const reached = [];
  for (let turn = 0; turn < wanted.length; turn++) {
    await page.keyboard.press("Tab");
    const [name, outline] = await page.evaluate(() => {
      const one = document.activeElement;
      return [one.id || one.textContent, getComputedStyle(one).outlineStyle];
    });
    reached.push(name);
    if (outline === "none") problems.push(`${at}: no outline around ${name}`);
  }
  if (reached.join() !== wanted.join()) problems.push(`${at}: Tab goes ${reached.join()} in place of ${wanted.join()}`);
  if (!wanted.length) return;
  await page.focus("#failures th:nth-child(2) button");
  await page.keyboard.press("Enter");
  const sorted = await page.evaluate(() => document.querySelector("#failures th:nth-child(2)").ariaSort);
  if (sorted !== "ascending") problems.push(`${at}: Enter on a heading does not sort`);
};

// A page that is written again is shown again, by itself; where the reader was is kept.
const watch = async (browser, folder, file) => {
  const page = await open(browser, file, LOOKS[0]);
  const heading = () => page.evaluate(() => document.querySelector("h1").textContent).catch(() => "");
  const first = await heading();
  await page.type("#search", "ordered");
  await page.evaluate(() => scrollTo(0, 200));
  await page.screenshot({ path: path.join(folder, "live.png"), fullPage: true });
  const ends = Date.now() + LIVE_MS;
  let now = first;
  while ((now === first || !now) && Date.now() < ends) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    now = await heading();
  }
  if (now === first) problems.push(`live: still "${first}" after ${LIVE_MS / 1000} s`);
  console.log(`live: "${first}", then "${now}"`);
  const searched = await page.evaluate(() => document.getElementById("search").value);
  if (searched !== "ordered") problems.push(`live: the search is lost: "${searched}"`);
  const scrolled = await page.evaluate(() => scrollY);
  if (scrolled !== 200) problems.push(`live: the page jumps from 200 to ${scrolled}`);
};

(async () => {
  const [chromium, folder, ...pages] = process.argv.slice(2);
  const browser = await puppeteer.launch({ executablePath: chromium, args: ["--no-sandbox", "--disable-gpu"] });
  try {
    for (const [name, file] of pages.map((page) => page.split("="))) {
      await (name === "live" ? watch(browser, folder, file) : look(browser, folder, name, file));
    }
  } finally {
    await browser.close();
  }
  for (const problem of problems) console.log(problem);
  process.exitCode = problems.length ? 1 : 0;
})();

"use strict";
// Filters the pairs and shows a few at a time: the document never has more of them, and an image is read only
// when it is shown. Text from outside is inserted as text only, never as markup.

const PER_PAGE = 24;
const PER_BLOCK = 32; // IMAGES_PER_BLOCK in gallery.py
const ORDERS = {
  "highest score first": ["score", -1],
  "lowest score first": ["score", 1],
  "most motion first": ["motion", -1],
  "least motion first": ["motion", 1],
  "by video": ["place", 1],
};

const byId = (id) => document.getElementById(id);
const element = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

const pairs = JSON.parse(byId("pairs-data").textContent);
const blocks = document.querySelectorAll("script.pictures");
const opened = new Map();
const count = pairs.action.length;
const everything = Array.from({ length: count }, (_, pair) => pair);
const words = everything.map((pair) => [pairs.action[pair], pairs.other?.[pair] ?? "", pairs.video[pair]].join("\n").toLowerCase());
const NO_CLASS = "no class";
const visible = (text) => (text.trim() === "" ? "(blank)" : text);
const DEFAULTS = { text: "", class: "", least: "", most: "", view: "both" };
const chosen = new Set();
let found = everything;
let page = 0;
let large = null; // the place among those found of the pair that is shown large

const picture = (place) => {
  const block = Math.floor(place / PER_BLOCK);
  if (!opened.has(block)) opened.set(block, JSON.parse(blocks[block].textContent));
  return opened.get(block)[place % PER_BLOCK];
};

// Where a pair stands among all when they are sorted by video and time.
const placed = () => {
  const order = [...everything].sort(
    (a, b) => pairs.video[a].localeCompare(pairs.video[b]) || (pairs.times[a][0] ?? 0) - (pairs.times[b][0] ?? 0),
  );
  const places = [];
  order.forEach((pair, place) => (places[pair] = place));
  return places;
};

const compare = ([column, sign]) => (a, b) => {
  const [left, right] = [pairs[column][a], pairs[column][b]];
  if (left === null || right === null) return (left === null) - (right === null) || a - b;
  return sign * (left - right) || a - b;
};

const choose = () => {
  const text = byId("text").value.trim().toLowerCase();
  const wanted = byId("class").value;
  const [least, most] = ["least", "most"].map((id) => (byId(id).value === "" ? null : Number(byId(id).value)));
  const order = ORDERS[byId("order").value];
  if (order[0] === "place") pairs.place ??= placed();
  found = everything
    .filter(
      (pair) =>
        words[pair].includes(text) &&
        (wanted === "" || JSON.stringify(pairs.class[pair]) === wanted) &&
        (least === null || (pairs.score[pair] !== null && pairs.score[pair] >= least)) &&
        (most === null || (pairs.score[pair] !== null && pairs.score[pair] <= most)),
    )
    .sort(compare(order));
  page = 0;
  show();
};

// What is shown, in the address, so that a link shows the same. The order's default is the first.
const controls = () => ({ ...DEFAULTS, order: byId("order").options[0].value });
const remember = () => {
  const state = new URLSearchParams();
  for (const [id, value] of Object.entries(controls())) if (byId(id).value !== value) state.set(id, byId(id).value);
  if (byId("heat").checked) state.set("heat", "1");
  if (page) state.set("page", page + 1);
  const text = state.toString();
  if (!text && !location.hash.startsWith("#?")) return;
  try {
    history.replaceState(null, "", text ? `#?${text}` : location.pathname + location.search);
  } catch {
    // A page inside another may not have an address of its own.
  }
};

const recall = () => {
  const state = new URLSearchParams(location.hash.slice(2));
  for (const id of Object.keys(controls())) if (state.has(id)) byId(id).value = state.get(id);
  for (const id of ["class", "order", "view"]) if (byId(id).selectedIndex < 0) byId(id).selectedIndex = 0;
  byId("heat").checked = state.get("heat") === "1";
  choose();
  page = Math.max(0, Math.min(Math.ceil(found.length / PER_PAGE), Math.trunc(Number(state.get("page"))) || 1) - 1);
  show();
};

const image = (pair, column, alt) => {
  const made = element("img", { src: picture(pairs[column][pair]), alt, draggable: false });
  made.addEventListener("load", () => made.closest(".frame")?.style.setProperty("--shape", made.naturalWidth / made.naturalHeight));
  return made;
};

const caption = (pair, end, side) => {
  const time = pairs.times[pair][end];
  return element("span", { className: `time ${side}`, textContent: time === null ? ["source", "target"][end] : `${time.toFixed(2)} s` });
};

const target = (pair) => {
  const layers = [image(pair, "target", "Target frame")];
  if (byId("heat").checked && pairs.heat[pair] !== null)
    layers.push(element("img", { className: "heat", src: picture(pairs.heat[pair]), alt: "Importance of each token" }));
  return layers;
};

const sideBySide = (pair) => [
  element("div", { className: "frame" }, image(pair, "source", "Source frame"), caption(pair, 0, "left")),
  element("div", { className: "frame" }, ...target(pair), caption(pair, 1, "left")),
];

const slider = (pair) => {
  const handle = element("input", { type: "range", min: 0, max: 100, value: 50 });
  handle.setAttribute("aria-label", `Before and after: ${pairs.action[pair]}`);
  const frame = element(
    "div",
    { className: "frame" },
    image(pair, "source", "Source frame"),
    element("div", { className: "after" }, ...target(pair)),
    caption(pair, 0, "left"),
    caption(pair, 1, "right"),
    handle,
  );
  handle.addEventListener("input", () => frame.style.setProperty("--cut", `${handle.value}%`));
  return [frame];
};

// Without the sign that a value just below zero would keep.
const fixed = (value, digits) => value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1");

const said = (score, tokens, motion) =>
  [
    score !== null && `score ${score !== 0 && Math.abs(score) < 0.01 ? score.toPrecision(2) : fixed(score, 3)}`,
    tokens !== null && `${tokens} ${tokens === 1 ? "token" : "tokens"}`,
    motion !== null && `motion ${fixed(motion, 1)} px`,
  ]
    .filter(Boolean)
    .join(" · ");

const written = (text, className = "") =>
  element("h3", { dir: "auto", className: text.trim() ? className : `${className} muted`, textContent: text.trim() || "no action" });

const facts = (text) => element("p", { className: "facts", textContent: text });

// Of a comparison, what each of the two datasets says of the pair.
const actions = (pair) => {
  if (!pairs.other)
    return [written(pairs.action[pair]), facts(said(pairs.score[pair], pairs.tokens[pair], pairs.motion[pair]))];
  const column = (...parts) => element("div", {}, ...parts);
  return [
    element(
      "div",
      { className: "columns-of-two" },
      column(written(pairs.action[pair], "first"), facts(said(pairs.score[pair], pairs.tokens[pair], null))),
      column(written(pairs.other[pair], "second"), facts(said(pairs.otherScore[pair], pairs.otherTokens[pair], null))),
    ),
  ];
};

const pick = (pair) => {
  const box = element("input", { type: "checkbox", checked: chosen.has(pair), title: "Choose this pair" });
  box.setAttribute("aria-label", `Choose: ${pairs.action[pair]}`);
  box.addEventListener("change", () => {
    if (box.checked) chosen.add(pair);
    else chosen.delete(pair);
    showChosen();
  });
  return box;
};

const showChosen = () => {
  byId("chosen").textContent = `${chosen.size.toLocaleString("en")} chosen`;
  byId("export-ids").disabled = byId("none").disabled = chosen.size === 0;
};

const exportIds = () => {
  const ids = [...chosen].sort((a, b) => a - b).map((pair) => pairs.id[pair]);
  const link = element("a", {
    href: URL.createObjectURL(new Blob([`${ids.join("\n")}\n`], { type: "text/plain" })),
    download: "ids.txt",
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
};

const enlarge = (place) => {
  if (place < 0 || place >= found.length) return;
  large = place;
  page = Math.floor(place / PER_PAGE);
  show();
  const dialog = byId("large");
  dialog.replaceChildren(element("ol", { className: "pairs" }, card(found[place])), element("button", { textContent: "Close", onclick: () => dialog.close() }));
  if (!dialog.open) dialog.showModal();
  dialog.focus();
};

const card = (pair) => {
  const make = byId("view").value === "slider" ? slider : sideBySide;
  const origin = element("p", { className: "origin" }, element("bdi", { textContent: pairs.video[pair] }));
  const name = pairs.class[pair];
  if (name !== null) origin.append(" ", element("span", { className: "chip", textContent: visible(name), title: name }));
  origin.append(" ", pick(pair));
  const frames = element("div", { className: "frames" }, ...make(pair));
  if (byId("view").value !== "slider") frames.addEventListener("click", () => enlarge(found.indexOf(pair)));
  return element("li", { className: "pair" }, frames, ...actions(pair), origin);
};

const show = () => {
  const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
  const shown = found.slice(page * PER_PAGE, (page + 1) * PER_PAGE);
  byId("cards").className = `pairs ${byId("view").value}`;
  byId("cards").replaceChildren(...shown.map(card));
  byId("found").textContent =
    found.length === 0 ? "No pair matches." : `${found.length.toLocaleString("en")} of ${count.toLocaleString("en")} pairs`;
  byId("page").textContent = `page ${page + 1} of ${pages}`;
  byId("previous").disabled = page === 0;
  byId("next").disabled = page === pages - 1;
  byId("pages").hidden = pages === 1;
  showChosen();
  remember();
};

const turn = (step) => {
  page += step;
  show();
  byId("pairs").scrollIntoView();
};

const fill = () => {
  const counts = new Map();
  for (const name of pairs.class) counts.set(name, (counts.get(name) ?? 0) + 1);
  const names = [...counts.keys()].sort((a, b) => (a === null) - (b === null) || a.localeCompare(b));
  byId("class").append(
    element("option", { value: "", textContent: "all" }),
    ...names.map((name) => element("option", { value: JSON.stringify(name), textContent: `${name === null ? NO_CLASS : visible(name)} (${counts.get(name)})` })),
  );
  const scored = pairs.score.some((score) => score !== null);
  const orders = Object.keys(ORDERS).filter((name) => scored || ORDERS[name][0] !== "score");
  byId("order").append(...orders.map((name) => element("option", { value: name, textContent: name })));
  byId("scores").hidden = !scored;
  byId("heat").parentElement.hidden = pairs.heat.every((heat) => heat === null);
  byId("class").parentElement.hidden = names.length < 2;
  byId("controls").hidden = false;
};

const narrow = (id, value) => {
  byId("filters").reset();
  byId(id).value = value;
  choose();
  byId("pairs").scrollIntoView();
  byId(id).focus({ preventScroll: true });
};

fill();
if (location.hash.startsWith("#?")) recall();
else choose();
for (const id of ["text", "least", "most"]) byId(id).addEventListener("input", choose);
for (const id of ["class", "order"]) byId(id).addEventListener("change", choose);
for (const id of ["view", "heat"]) byId(id).addEventListener("change", show);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("clear").addEventListener("click", () => {
  byId("filters").reset();
  choose();
});
byId("all").addEventListener("click", () => {
  for (const pair of found) chosen.add(pair);
  show();
});
byId("none").addEventListener("click", () => {
  chosen.clear();
  show();
});
byId("export-ids").addEventListener("click", exportIds);
byId("large").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step || event.target.type === "range") return;
  event.preventDefault();
  enlarge(large + step);
});
byId("large").addEventListener("click", (event) => event.target === byId("large") && byId("large").close());
addEventListener("hashchange", () => location.hash.startsWith("#?") && recall());
byId("previous").addEventListener("click", () => turn(-1));
byId("next").addEventListener("click", () => turn(1));
for (const button of document.querySelectorAll("[data-text]"))
  button.addEventListener("click", () => narrow("text", button.dataset.text));
for (const button of document.querySelectorAll("[data-class]"))
  button.addEventListener("click", () => narrow("class", JSON.stringify(button.dataset.class)));

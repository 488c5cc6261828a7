"use strict";
// The rater's side of a review. What comes from outside reaches the page as text only, never as markup.

const review = JSON.parse(document.getElementById("review").textContent);
const slot = `kinescribe-review:${review.id}`;
const byId = (id) => document.getElementById(id);
const verdicts = { keep: "kept", correct: "corrected", reject: "rejected" };
let state = null;
let asking = null; // what a verdict still needs: "correction", "rejection" or null
let showsScore = false;

const element = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

const load = (name) => {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
};

const save = () => {
  try {
    localStorage.setItem(slot, state.rater);
    localStorage.setItem(`${slot}:${state.rater}`, JSON.stringify(state));
  } catch {
    byId("unsaved").hidden = false;
  }
};

const enter = (rater) => {
  const kept = load(`${slot}:${rater}`);
  state = kept ? JSON.parse(kept) : { rater, at: 0, ratings: {}, undo: [] };
  save();
  show();
};

const current = () => review.pairs[state.at];
const ratingOf = (pair) => (Object.hasOwn(state.ratings, pair.id) ? state.ratings[pair.id] : null);
const seconds = (time) => (time === null ? "" : `${time.toFixed(2)} s`);

const move = (place) => {
  state.at = Math.max(0, Math.min(review.pairs.length, place));
  asking = null;
  save();
  show();
};

// On to the next pair without a rating; behind the last one, to the end.
const rate = (rating) => {
  const pair = current();
  state.undo.push([state.at, ratingOf(pair)]);
  state.ratings[pair.id] = rating;
  const next = review.pairs.findIndex((one, place) => place > state.at && !ratingOf(one));
  move(next < 0 ? review.pairs.length : next);
};

const undo = () => {
  const last = state.undo.pop();
  if (!last) return;
  const [place, rating] = last;
  const { id } = review.pairs[place];
  if (rating) state.ratings[id] = rating;
  else delete state.ratings[id];
  move(place);
};

const ask = (what) => {
  asking = what;
  show();
  if (what === "correction") {
    byId("words").value = ratingOf(current())?.action ?? current().action;
    byId("words").select();
    byId("words").focus();
  }
  if (what === "rejection") byId("reasons").firstChild.focus();
};

const correct = () => {
  const words = byId("words").value.split(/\s+/).filter(Boolean).join(" ");
  if (!/[\p{L}\p{N}]/u.test(words)) return;
  rate(words === current().action ? { verdict: "keep" } : { verdict: "correct", action: words });
};

const reject = (place) => {
  const reason = Object.keys(review.reasons)[place];
  if (reason) rate({ verdict: "reject", reason });
};

const said = (rating) => {
  if (!rating) return "";
  const more = rating.action ?? review.reasons[rating.reason];
  return more ? `${verdicts[rating.verdict]}: ${more}` : verdicts[rating.verdict];
};

const showPair = () => {
  const pair = current();
  const rating = ratingOf(pair);
  byId("place").textContent = `${state.at + 1} of ${review.pairs.length}`;
  byId("action").textContent = pair.action;
  byId("origin").textContent = [pair.class, pair.video].filter(Boolean).join(" · ");
  byId("score").textContent = pair.score === null ? "no likelihood" : `mean log-likelihood ${pair.score}`;
  byId("score").hidden = !showsScore;
  byId("verdict").textContent = said(rating);
  byId("verdict").dataset.verdict = rating?.verdict ?? "";
  byId("source").src = pair.source;
  byId("target").src = pair.target;
  byId("source-time").textContent = seconds(pair.times[0]);
  byId("target-time").textContent = seconds(pair.times[1]);
  byId("clip").replaceChildren(
    ...pair.clip.map(([time, image]) => {
      const item = element("li", {}, element("img", { src: image, alt: "" }), element("span", { textContent: seconds(time) }));
      if (pair.times.includes(time)) item.dataset.pair = "";
      return item;
    }),
  );
  byId("clip").hidden = pair.clip.length < 3;
  for (const name of Object.keys(verdicts)) byId(name).setAttribute("aria-pressed", rating?.verdict === name);
  byId("undo").disabled = !state.undo.length;
  byId("correction").hidden = asking !== "correction";
  byId("rejection").hidden = asking !== "rejection";
};

const show = () => {
  const finished = state && state.at === review.pairs.length;
  byId("welcome").hidden = Boolean(state);
  byId("rating").hidden = !state || finished;
  byId("finish").hidden = !finished;
  byId("footer").hidden = !state;
  if (!state) return;
  const done = review.pairs.filter(ratingOf).length;
  Object.assign(byId("progress"), { max: review.pairs.length, value: done });
  byId("done").textContent = `${done} rated`;
  byId("who").textContent = `${state.rater}: ${done} of ${review.pairs.length} rated`;
  byId("left").textContent =
    done === review.pairs.length
      ? "Every pair is rated. Export your answers and send the file to who asked you."
      : `${review.pairs.length - done} of ${review.pairs.length} pairs are not rated. You can go back, or export what there is.`;
  if (!finished) showPair();
  // The browser takes the focus from what is hidden only later, and a key that was pressed meanwhile would be lost.
  if (document.activeElement?.closest("[hidden]")) document.activeElement.blur();
};

const peek = (first) => {
  const pair = current();
  byId("target").src = first ? pair.source : pair.target;
  byId("after").textContent = first ? "before" : "after";
};

const download = () => {
  const { rater, ratings } = state;
  const { id: page, dataset, draw } = review;
  const data = { page, dataset, draw, rater, exported: new Date().toISOString(), ratings };
  const link = element("a", {
    href: URL.createObjectURL(new Blob([JSON.stringify(data, null, 2)], { type: "application/json" })),
    download: `review-${page.slice(0, 8)}-${rater.replace(/[^\p{L}\p{N}]+/gu, "-")}.json`,
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
};

const commands = {
  k: () => rate({ verdict: "keep" }),
  c: () => ask("correction"),
  r: () => ask("rejection"),
  s: () => move(state.at + 1),
  u: undo,
  l: () => {
    showsScore = !showsScore;
    show();
  },
  ArrowRight: () => move(state.at + 1),
  ArrowLeft: () => move(state.at - 1),
  Escape: () => ask(null),
};

const onKey = (event) => {
  if (!state || event.ctrlKey || event.altKey || event.metaKey) return;
  const finished = state.at === review.pairs.length;
  if (event.target === byId("words")) {
    if (event.key === "Enter") correct();
    else if (event.key === "Escape") ask(null);
    else return;
  } else if (finished) {
    if (event.key === "ArrowLeft") move(state.at - 1);
    else if (event.key === "u") undo();
    else return;
  } else if (event.key === " " && event.target.tagName !== "BUTTON") peek(true);
  else if (asking === "rejection" && /^[1-9]$/.test(event.key)) reject(Number(event.key) - 1);
  else {
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!Object.hasOwn(commands, name)) return;
    commands[name]();
  }
  event.preventDefault();
};

const leave = () => {
  localStorage.removeItem(slot);
  state = null;
  show();
};

const start = () => {
  const rater = byId("rater").value.trim();
  if (rater) enter(rater);
  else byId("rater").focus();
};

byId("reasons").replaceChildren(
  ...Object.values(review.reasons).map((reason, place) =>
    element("button", { onclick: () => reject(place) }, element("kbd", { textContent: place + 1 }), ` ${reason}`),
  ),
);
byId("known").replaceChildren(...review.words.map((words) => element("option", { value: words })));
byId("start").addEventListener("click", start);
byId("rater").addEventListener("keydown", (event) => event.key === "Enter" && start());
byId("keep").addEventListener("click", commands.k);
byId("correct").addEventListener("click", commands.c);
byId("reject").addEventListener("click", commands.r);
byId("skip").addEventListener("click", commands.s);
byId("undo").addEventListener("click", undo);
byId("save").addEventListener("click", correct);
byId("return").addEventListener("click", () => move(state.at - 1));
byId("leave").addEventListener("click", leave);
byId("export").addEventListener("click", download);
byId("target").addEventListener("pointerdown", () => peek(true));
for (const end of ["pointerup", "pointerleave", "pointercancel"]) byId("target").addEventListener(end, () => peek(false));
document.addEventListener("keydown", onKey);
document.addEventListener("keyup", (event) => event.key === " " && state && current() && peek(false));
const last = load(slot);
if (last) enter(last);
else show();

"use strict";
// The rater's side of the study. What comes from outside reaches the page as text only, never as markup.

const study = JSON.parse(document.getElementById("study").textContent);
const criteria = Object.keys(study.criteria);
const slot = `kinescribe-study:${study.id}`;
const byId = (id) => document.getElementById(id);
let state = null;
let active = 0;

const element = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

const shuffled = (items) => {
  const order = [...items];
  for (let last = order.length - 1; last > 0; last--) {
    const other = Math.floor(Math.random() * (last + 1));
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
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
  const order = () =>
    shuffled(study.questions).map(({ id, options }) => ({ question: id, options: shuffled(options.map((one) => one.id)) }));
  state = kept ? JSON.parse(kept) : { study: study.id, rater, at: 0, order: order(), answers: {} };
  save();
  show();
};

const current = () => state.order[state.at];
const answer = (question, criterion) => state.answers[question]?.[criterion] ?? {};
const isAnswered = (question, criterion) => {
  const given = answer(question, criterion);
  return given.tie || ("best" in given && "worst" in given);
};
const isDone = ({ question }) => criteria.every((criterion) => isAnswered(question, criterion));

const pick = (index, kind, place) => {
  const { question, options } = current();
  if (place >= options.length) return;
  const criterion = criteria[index];
  const other = kind === "best" ? "worst" : "best";
  const picked = { ...answer(question, criterion), [kind]: options[place] };
  if (picked[other] === picked[kind]) delete picked[other];
  delete picked.tie;
  give(index, picked);
};

const give = (index, given) => {
  const { question } = current();
  state.answers[question] = { ...state.answers[question], [criteria[index]]: given };
  active = isAnswered(question, criteria[index]) ? Math.min(index + 1, criteria.length - 1) : index;
  save();
  show();
};

const tie = (index) => give(index, { tie: true });

const move = (step) => {
  state.at = Math.max(0, Math.min(state.order.length, state.at + step));
  active = 0;
  save();
  show();
};

const picks = (index, kind) => {
  const { question, options } = current();
  const criterion = criteria[index];
  const buttons = options.map((id, place) => {
    const button = element("button", { textContent: place + 1, onclick: () => pick(index, kind, place) });
    button.setAttribute("aria-pressed", answer(question, criterion)[kind] === id);
    button.setAttribute("aria-label", `${kind}: picture ${place + 1}`);
    Object.assign(button.dataset, { pick: kind, criterion, place });
    return button;
  });
  return element("div", { className: "picks" }, element("span", { textContent: kind }), ...buttons);
};

const criterionBox = (criterion, index) => {
  const legend = element("legend", { textContent: study.criteria[criterion] });
  const same = element("button", { textContent: "No difference", onclick: () => tie(index) });
  same.setAttribute("aria-pressed", Boolean(answer(current().question, criterion).tie));
  Object.assign(same.dataset, { pick: "tie", criterion, place: 0 });
  const box = element("fieldset", { onclick: () => (active = index) }, legend, picks(index, "best"), picks(index, "worst"), same);
  if (index === active) box.dataset.active = "";
  return box;
};

const showQuestion = () => {
  const { question, options } = current();
  const { action, source, options: images } = study.questions.find(({ id }) => id === question);
  byId("place").textContent = `${state.at + 1} of ${state.order.length}`;
  byId("action").textContent = action;
  byId("source").src = source;
  byId("options").replaceChildren(
    ...options.map((id, place) =>
      element(
        "figure",
        {},
        element("img", { src: images.find((one) => one.id === id).image, alt: `Picture ${place + 1}` }),
        element("figcaption", { textContent: place + 1 }),
      ),
    ),
  );
  byId("criteria").replaceChildren(...criteria.map(criterionBox));
  byId("back").disabled = state.at === 0;
};

const show = () => {
  const focused = { ...document.activeElement?.dataset };
  const finished = state && state.at === state.order.length;
  byId("welcome").hidden = Boolean(state);
  byId("rating").hidden = !state || finished;
  byId("finish").hidden = !finished;
  byId("footer").hidden = !state;
  if (!state) return;
  const done = state.order.filter(isDone).length;
  Object.assign(byId("progress"), { max: state.order.length, value: done });
  byId("who").textContent = `${state.rater}: ${done} of ${state.order.length} answered`;
  byId("left").textContent =
    done === state.order.length
      ? "Everything is answered. Export your answers and send the file to who asked you."
      : `${state.order.length - done} of ${state.order.length} questions are not fully answered. You can go back, or export what there is.`;
  if (!finished) showQuestion();
  // The buttons were made anew: who works by Tab stays where they were.
  if (focused.pick)
    document.querySelector(`[data-pick="${focused.pick}"][data-criterion="${focused.criterion}"][data-place="${focused.place}"]`)?.focus();
};

const download = () => {
  const file = new Blob([JSON.stringify(state, null, 2)], { type: "application/json" });
  const link = element("a", {
    href: URL.createObjectURL(file),
    download: `study-${study.id}-${state.rater.replace(/[^\p{L}\p{N}]+/gu, "-")}.json`,
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
};

const onKey = (event) => {
  if (!state || state.at === state.order.length || event.ctrlKey || event.altKey || event.metaKey) return;
  const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code);
  const steps = { ArrowLeft: () => move(-1), ArrowRight: () => move(1) };
  const turns = { ArrowUp: -1, ArrowDown: 1 };
  if (digit) pick(active, event.shiftKey ? "worst" : "best", Number(digit[1]) - 1);
  else if (event.code === "Digit0" || event.code === "Numpad0") tie(active);
  else if (event.key in steps) steps[event.key]();
  else if (event.key in turns) {
    active = (active + turns[event.key] + criteria.length) % criteria.length;
    show();
  } else return;
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

byId("start").addEventListener("click", start);
byId("rater").addEventListener("keydown", (event) => event.key === "Enter" && start());
byId("back").addEventListener("click", () => move(-1));
byId("next").addEventListener("click", () => move(1));
byId("return").addEventListener("click", () => move(-1));
byId("leave").addEventListener("click", leave);
byId("export").addEventListener("click", download);
document.addEventListener("keydown", onKey);
const last = load(slot);
if (last) enter(last);
else show();

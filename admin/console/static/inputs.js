// What a run asks a person, with the form to answer, and the answers until now.

import { Failure, call, page, source } from "./api.js";
import { $, busy, el, focusOn, notify, when } from "./dom.js";
import { clear, fault, jsonFault, showFaults } from "./form.js";
import { indent, part } from "./json.js";

let open; // the request that the form is for
let shown = false; // the run was shown before
let sending = false;
let reload; // loads the run of this page again, and returns it

// showInputs shows the requests of a run, as call has returned it. A form that is being
// filled in stays until its request is closed.
export function showInputs(run, load) {
  reload = load;
  const next = run.status === "waiting" ? run.inputs.findLast((i) => !i.answered_at) : undefined;
  if (String(next?.id) !== String(open?.id)) {
    const before = open && run.inputs.find((i) => String(i.id) === String(open.id));
    const focused = $("ask").contains(document.activeElement);
    open = next;
    $("ask").replaceChildren(...(next ? request(next, run) : []));
    if (before && !sending) notify(before.answered_at ? `This request has an answer. ${outcome(before)}` : closed, "plain");
    else if (next && shown && !sending) notify("The run waits for input.", "plain");
    if (focused) focusOn(next ? $("ask-title") : $("title"));
  }
  shown = true;
  $("ask").hidden = !next;
  const answered = run.inputs.filter((i) => i.answered_at);
  $("answered").hidden = answered.length === 0;
  $("answers").replaceChildren(...answered.map((i) => el("li", {},
    el("p", { class: "text", dir: "auto" }, i.question), i.tool && el("p", {}, "Tool ", el("code", { dir: "auto" }, i.tool)),
    el("p", { class: "quiet" }, el("span", { dir: "auto" }, outcome(i)), " ", when(i.answered_at)))));
}

const closed = "This request is closed. It has expired, or the run does not wait any more.";

// outcome describes an answer.
function outcome(i) {
  const by = i.answered_by ? ` by ${i.answered_by}` : "";
  if (!i.decision) return `Answered${by} with ${JSON.stringify(i.answer)}`;
  return `${i.decision === "approve" ? "Approved" : "Denied"}${by}${i.reason ? `, because: ${i.reason}` : ""}`;
}

function request(i, run) {
  const form = el("form", { id: "reply", class: "stack", novalidate: true, submit: (event) => {
    event.preventDefault();
    clear(form);
    const body = approval(i) ? decision(form, event.submitter.value) : answer(form, i);
    if (body) busy(event.submitter, () => send(form, i, `{"request_id":${i.id},${body}}`));
  } }, ...(approval(i) ? approvalFields() : questionFields(i)));
  return [
    el("h2", { id: "ask-title", tabindex: "-1" }, approval(i) ? "Waiting for approval" : "Waiting for an answer"),
    el("p", { class: "text", dir: "auto" }, i.question),
    ...(approval(i) ? toolCall(i, run) : []),
    form,
    el("p", { class: "quiet" }, "Expires: ", when(i.expires_at)),
  ];
}

const approval = (i) => i.kind === "approval";

// Characters that change the order in which a text is displayed.
const reorders = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/;

// toolCall is the call that waits for approval, with every lexeme of its arguments as it is
// stored.
function toolCall(i, run) {
  const given = part(source(run), "inputs", run.inputs.indexOf(i), "arguments");
  return [
    el("p", {}, "Tool ", el("code", { id: "ask-tool", dir: "auto" }, i.tool)),
    reorders.test(given + i.tool) && el("p", { class: "notice bad" }, "This text has characters that change the order in which it is displayed. Read it with care."),
    el("h3", {}, "Arguments"),
    el("pre", { id: "ask-arguments", tabindex: "0", role: "region", "aria-label": "Arguments", dir: "ltr" }, indent(given)),
  ].filter(Boolean);
}

const approvalFields = () => [
  el("label", {}, "Reason (optional)", el("textarea", { name: "reason", rows: "2", maxlength: "1000", dir: "auto" })),
  el("div", { class: "actions" }, el("button", { class: "main", value: "approve" }, "Approve"), el("button", { class: "danger", value: "deny" }, "Deny")),
];

function questionFields(i) {
  const button = el("div", { class: "actions" }, el("button", { class: "main" }, "Send answer"));
  if (i.choices) {
    return [el("fieldset", { id: "answer" }, el("legend", {}, "Answer"), i.choices.map((choice) => el("label", { class: "choice" },
      el("input", { type: "radio", name: "choice", value: choice }), el("span", { dir: "auto" }, choice)))), button];
  }
  if (asText(i)) return [el("label", {}, "Answer", el("textarea", { name: "answer", rows: "3", dir: "auto" })), button];
  return [
    el("label", {}, "Answer (JSON)", el("textarea", { name: "answer", rows: "6", class: "code", spellcheck: "false" })),
    el("details", {}, el("summary", {}, "JSON Schema of the answer"),
      el("pre", { tabindex: "0", role: "region", "aria-label": "JSON Schema" }, indent(JSON.stringify(i.schema)))),
    button,
  ];
}

const asText = (i) => !i.schema || i.schema.type === "string";

function decision(form, value) {
  const reason = form.elements.reason.value.trim();
  return `"decision":${JSON.stringify(value)}${reason ? `,"reason":${JSON.stringify(reason)}` : ""}`;
}

// answer is the member of a body, or undefined if the form has no valid answer.
function answer(form, i) {
  if (i.choices) {
    const chosen = form.querySelector("input[name=choice]:checked");
    if (chosen) return `"answer":${JSON.stringify(chosen.value)}`;
    fault(form, "answer", "Select an answer.");
    form.querySelector("input").focus();
    return undefined;
  }
  const field = form.elements.answer, text = field.value;
  const wrong = text.trim() === "" ? "An answer is required." : asText(i) ? null : jsonFault(text);
  if (!wrong) return `"answer":${asText(i) ? JSON.stringify(text) : text}`;
  fault(form, "answer", wrong);
  field.focus();
  return undefined;
}

async function send(form, i, body) {
  sending = true;
  try {
    await call("POST", `runs/${page.run}/input`, body);
    const run = await reload();
    notify(run?.status === "waiting" ? "The answer is sent. The run asks again." : "The answer is sent. The run continues.");
  } catch (failure) {
    if (failure.code !== "already_answered" && failure.code !== "input_closed") return showFaults(form, failure);
    const first = (await reload())?.inputs.find((other) => String(other.id) === String(i.id));
    const text = first?.answered_at ? `Another answer came first. ${outcome(first)}` : closed;
    notify(new Failure(failure.status, { detail: text }));
  } finally {
    sending = false;
  }
}

import { get } from "./api.js";
import { $, el, empty, problem, when } from "./dom.js";
import { Table } from "./table.js";

const kinds = [
  ["completed", "Completed runs", "The whole trigger, from the end of the run"],
  ["failed", "Failed runs", "The whole trigger, from the end of the run"],
  ["cancelled", "Cancelled runs", "The whole trigger, from the end of the run"],
  ["timed_out", "Timed out runs", "The whole trigger, from the end of the run"],
  ["events", "Events", "The events of a run, from its end; the rest of the run stays"],
  ["audit_entries", "Audit log", "Each entry, from its time"],
  ["statistics", "Statistics", "The numbers of each hour, from its end"],
];

// age is a number of seconds in the largest unit that divides it.
function age(seconds) {
  if (seconds === null) return "forever";
  const [unit, length] = [["day", 86_400], ["hour", 3600], ["minute", 60], ["second", 1]].find(([, length]) => seconds % length === 0);
  return new Intl.NumberFormat("en", { style: "unit", unit, unitDisplay: "long" }).format(seconds / length);
}

const size = (bytes) => {
  const [unit, length] = [["terabyte", 1e12], ["gigabyte", 1e9], ["megabyte", 1e6], ["kilobyte", 1e3]].find(([, length]) => bytes >= length) ?? ["byte", 1];
  return new Intl.NumberFormat("en", { style: "unit", unit, maximumFractionDigits: 1 }).format(bytes / length);
};

const count = ({ count, estimated }) => `${estimated ? "about " : ""}${count.toLocaleString()}`;
const fact = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));

const table = new Table("Retention", [
  { label: "Data", cell: (k) => k.name },
  { label: "Kept", cell: (k) => age(k.seconds) },
  { label: "What is deleted", wide: true, cell: (k) => k.what },
]);

function stored(data) {
  if (!data) return [el("div", {}, empty("This store does not report what it contains."))];
  const facts = [fact("Runs", count(data.runs)), fact("Callbacks", count(data.deliveries)), fact("Audit entries", count(data.audit_entries)),
    fact("Oldest run", when(data.oldest_run_at, "none"))];
  return data.bytes === null ? facts : [...facts, fact("Size", size(data.bytes))];
}

function purge(report) {
  if (!report) return [fact("Last pass", "not known")];
  const { passed_at: passed, deleted_at: time, deleted } = report;
  const facts = [fact("Last complete pass", when(passed, "none yet"))];
  if (!deleted) return [...facts, fact("Deleted", "nothing yet")];
  const what = [[deleted.triggers, "trigger", "triggers"], [deleted.runs_without_events, "run's events", "runs' events"], [deleted.audit_entries, "audit entry", "audit entries"],
    [deleted.statistics_hours, "hour of statistics", "hours of statistics"]];
  return [...facts, fact("Last pass that deleted data", when(time)),
    fact("Deleted by it", what.filter(([n]) => n).map(([n, one, many]) => `${n.toLocaleString()} ${n === 1 ? one : many}`).join(", "))];
}

async function load() {
  try {
    const data = await get("data");
    table.show(kinds.map(([id, name, what]) => ({ id, name, what, seconds: data.retention[id] })));
    $("kept").replaceChildren(table.element);
    $("stored").replaceChildren(...stored(data.stored));
    $("purge").replaceChildren(...purge(data.purge));
  } catch (failure) {
    $("kept").replaceChildren(problem(failure, load));
  }
}
load();

// The summary of an event in one line.

import { duration, number } from "./dom.js";

export const tones = {
  run_completed: "good", run_failed: "bad", run_timed_out: "bad", tool_failed: "bad", x_output_rejected: "bad", cancel_requested: "wait",
  run_started: "busy", run_requeued: "wait", input_requested: "wait",
};

// summary is an event in a line.
export function summary({ event_type: type, payload: p }) {
  switch (type) {
    case "run_started": return `attempt ${p.attempt}`;
    case "cancel_requested": return p.reason ?? "";
    case "run_requeued": return p.reason ?? "";
    case "input_requested": return p.tool ? `${p.tool} ${short(p.arguments)}` : short(p.question);
    case "input_received": return [p.decision, p.answered_by].filter(Boolean).join(" · ");
    case "message_completed": return short(p.text);
    case "tool_started": return `${p.tool} ${short(p.arguments)}`;
    case "tool_completed": return `${p.tool} → ${short(p.result)}`;
    case "tool_failed": return `${p.tool}: ${short(p.error)}`;
    case "model_completed":
      return [p.model, typeof p.duration_ms === "number" && duration(p.duration_ms),
        p.usage && `${number(p.usage.input_tokens)} in, ${number(p.usage.output_tokens)} out`].filter(Boolean).join(" · ");
    case "run_completed": case "run_failed": case "run_cancelled": case "run_timed_out":
      return [p.status_detail, p.error_message].filter(Boolean).join(": ");
  }
  return Object.keys(p ?? {}).length ? short(p) : "";
}

export function short(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value) ?? "";
  return text.length > 160 ? `${text.slice(0, 160)} …` : text;
}

import type { Severity } from "../api/types";
import { severities } from "../api/types";

/** rank orders severities, "none" lowest. */
export function rank(s: Severity): number {
  return severities.indexOf(s);
}

export function worst(all: Severity[]): Severity {
  return all.reduce<Severity>((a, b) => (rank(b) > rank(a) ? b : a), "none");
}

export const severityWord: Record<Severity, string> = {
  none: "",
  info: "Info",
  low: "Low",
  medium: "Medium",
  high: "High",
  critical: "Critical",
};

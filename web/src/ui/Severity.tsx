import type { Severity } from "../api/types";
import { severityWord } from "../domain/severity";
import css from "./Severity.module.css";

/** The shape of a severity: diamond, triangle, square, disc, ring; a dot where there is no signal. */
export function SeverityMark({ severity, size = 11 }: { severity: Severity; size?: number }) {
  return (
    <svg
      className={css.mark}
      data-sev={severity}
      width={size}
      height={size}
      viewBox="0 0 12 12"
      aria-hidden="true"
    >
      <SeverityShape severity={severity} />
    </svg>
  );
}

/** The bare shape in a 12 × 12 box, to be used inside another drawing. */
export function SeverityShape({ severity }: { severity: Severity }) {
  switch (severity) {
    case "critical":
      return <path d="M6 0 12 6 6 12 0 6Z" fill="var(--sev)" />;
    case "high":
      return <path d="M6 .7 12 11.300H0Z" fill="var(--sev)" />;
    case "medium":
      return <rect x="1.200" y="1.200" width="9.600" height="9.600" rx="1" fill="var(--sev)" />;
    case "low":
      return <circle cx="6" cy="6" r="5" fill="var(--sev)" />;
    case "info":
      return <circle cx="6" cy="6" r="4" fill="none" stroke="var(--sev)" strokeWidth="2" />;
    case "none":
      return <circle cx="6" cy="6" r="2" fill="var(--sev)" />;
  }
}

/** Shape and word on the severity's colour. */
export function SeverityChip({ severity, score }: { severity: Severity; score?: number }) {
  return (
    <span className={css.chip} data-sev={severity}>
      <svg width="11" height="11" viewBox="0 0 12 12" aria-hidden="true" className={css.onChip}>
        <SeverityShape severity={severity} />
      </svg>
      {severityWord[severity]}
      {score !== undefined && <b className={css.score}>{score}</b>}
    </span>
  );
}

/** Shape with the word for screen readers only. */
export function SeverityWithWord({ severity, size }: { severity: Severity; size?: number }) {
  return (
    <>
      <SeverityMark severity={severity} {...(size === undefined ? {} : { size })} />
      <span className="sr">{severityWord[severity]} </span>
    </>
  );
}

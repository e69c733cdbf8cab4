// What stands in place of data: loading, empty, error, not logged in, not found.
import { type ErrorComponentProps, Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { ApiError } from "../api/client";
import { LogIn, RefreshCw, TriangleAlert } from "../ui/icons";
import { Button } from "../ui/kit";
import css from "./states.module.css";

interface MessageProps {
  icon?: ReactNode;
  title: string;
  /** 1 where the message is all there is on the page. */
  level?: 1 | 2;
  children?: ReactNode;
  live?: "polite" | "assertive";
}

export function Message({ icon, title, level = 2, children, live }: MessageProps) {
  const Title = level === 1 ? "h1" : "h2";
  return (
    <div className={css.message} role={live === "assertive" ? "alert" : live ? "status" : undefined}>
      {icon && <span className={css.icon}>{icon}</span>}
      <Title>{title}</Title>
      <div className={css.text}>{children}</div>
    </div>
  );
}

/** What went wrong with one part of the page, and a way to try again. */
export function Failure({ error, what, onRetry }: { error: Error; what: string; onRetry: () => void }) {
  if (error instanceof ApiError && error.status === 401) return <LoginNeeded />;
  const missing = error instanceof ApiError && error.status === 404;
  return (
    <Message
      icon={<TriangleAlert size={22} aria-hidden="true" />}
      level={1}
      title={`${what} could not be loaded`}
      live="assertive"
    >
      <p>
        {missing ? "The server does not know it; it may be beyond retention." : error.message}
        {error instanceof ApiError && error.requestId !== "" && <> Request {error.requestId}.</>}
      </p>
      <Button look="line" onPress={onRetry}>
        <RefreshCw size={14} aria-hidden="true" /> Try again
      </Button>
    </Message>
  );
}

/** The session is missing or over: how to get one. */
export function LoginNeeded() {
  return (
    <Message
      icon={<LogIn size={22} aria-hidden="true" />}
      level={1}
      title="Log in to look at stories"
      live="assertive"
    >
      <p>
        This browser has no session here, or it is over. There are no passwords: a link logs you in, once.
      </p>
      <p>
        Open the link that <code>clew up</code> printed when it started, or make a new one on the machine that
        runs the server:
      </p>
      <pre>clew login</pre>
    </Message>
  );
}

export function NotFound() {
  return (
    <Message level={1} title="There is nothing here">
      <p>
        The address names no page. <Link to="/stories">Go to the stories</Link>
      </p>
    </Message>
  );
}

export function CrashView({ error }: ErrorComponentProps) {
  return (
    <Message
      icon={<TriangleAlert size={22} aria-hidden="true" />}
      level={1}
      title="This page stopped working"
      live="assertive"
    >
      <p>{error instanceof Error ? error.message : "Unknown error"}</p>
      <Button look="line" onPress={() => location.reload()}>
        <RefreshCw size={14} aria-hidden="true" /> Load it again
      </Button>
    </Message>
  );
}

export function Skeleton({ height, width = "100%" }: { height: number | string; width?: number | string }) {
  return <div className={css.skeleton} style={{ height, width }} aria-hidden="true" />;
}

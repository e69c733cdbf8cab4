// The queries of the page, one hook each. A stream tells when a story changed; while there is none, the page asks
// every few seconds. The answer carries a version, and the same version leaves everything on screen as it is.
import { keepPreviousData, type QueryClient, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { ApiError, call, stream } from "./client";
import * as decode from "./decode";
import type { EventView, FleetStatus, Story, StoryList } from "./types";

const retry = (failures: number, error: Error) => {
  if (error instanceof ApiError && error.status >= 400 && error.status < 500) return false;
  return failures < 2;
};

/** How often to ask while no stream tells of changes, and while one does. */
const pollMs = { alone: 2000, streaming: 30_000 };

/**
 * follow keeps a stream open until it is stopped and opens it again when it ends. Changes that come faster than
 * they can be fetched are told once.
 */
function follow(client: QueryClient, onLive: (live: boolean) => void): () => void {
  const stop = new AbortController();
  let pause = 500;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let told: ReturnType<typeof setTimeout> | undefined;
  const changed = () => {
    told ??= setTimeout(() => {
      told = undefined;
      void client.invalidateQueries({ queryKey: ["stories"] });
      void client.invalidateQueries({ queryKey: ["story"] });
    }, 60);
  };
  const run = () => {
    stream(
      "StoryService/WatchStories",
      {},
      () => {
        pause = 500;
        onLive(true);
        changed();
      },
      stop.signal,
    )
      .catch(() => {
        pause = Math.min(pause * 2, 15_000);
      })
      .finally(() => {
        if (stop.signal.aborted) return;
        onLive(false);
        timer = setTimeout(run, pause);
      });
  };
  run();
  return () => {
    stop.abort();
    clearTimeout(timer);
    clearTimeout(told);
  };
}

/** useLive follows changes while the component is mounted; true while a stream brings them. */
export function useLive(): void {
  const client = useQueryClient();
  const [live, setLive] = useState(false);
  useEffect(() => follow(client, setLive), [client]);
  useEffect(() => {
    client.setQueryData(["live"], live);
  }, [client, live]);
}

function usePoll(): number {
  const { data } = useQuery<boolean>({
    queryKey: ["live"],
    queryFn: () => false,
    initialData: false,
    staleTime: Infinity,
  });
  return data ? pollMs.streaming : pollMs.alone;
}

export function useStories() {
  const refetchInterval = usePoll();
  return useQuery<StoryList>({
    queryKey: ["stories"],
    queryFn: async ({ signal }) =>
      decode.storyList(await call("StoryService/ListStories", { limit: 500 }, signal)),
    refetchInterval,
    retry,
  });
}

/** useStory follows one story; `open` names the folds to unfold. */
export function useStory(id: string, open: string[]) {
  const refetchInterval = usePoll();
  return useQuery<Story>({
    queryKey: ["story", id, open],
    queryFn: async ({ signal }) => decode.story(await call("StoryService/GetStory", { id, open }, signal)),
    placeholderData: keepPreviousData,
    structuralSharing: (before, after) => {
      const [a, b] = [before as Story | undefined, after as Story];
      return a && a.id === b.id && a.version === b.version && a.version !== "" ? a : b;
    },
    refetchInterval,
    retry,
  });
}

export function useFleet() {
  return useQuery<FleetStatus>({
    queryKey: ["fleet"],
    queryFn: async ({ signal }) => decode.fleet(await call("FleetService/GetStatus", {}, signal)),
    refetchInterval: 5000,
    retry,
  });
}

/** useEvents asks for single events by id; it stays idle while there are none to ask for. */
export function useEvents(ids: string[]) {
  return useQuery<EventView[]>({
    queryKey: ["events", ids],
    queryFn: async ({ signal }) =>
      decode.events(await call("EventService/SearchEvents", { ids, limit: ids.length }, signal)),
    enabled: ids.length > 0,
    staleTime: 60_000,
    retry: false,
  });
}

// The queries of the page, one hook each. Live data is polled: the answer carries a version, and the same
// version leaves everything on screen as it is.
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { ApiError, call } from "./client";
import * as decode from "./decode";
import type { EventView, FleetStatus, Story, StoryList } from "./types";

const retry = (failures: number, error: Error) => {
  if (error instanceof ApiError && error.status >= 400 && error.status < 500) return false;
  return failures < 2;
};

export function useStories() {
  return useQuery<StoryList>({
    queryKey: ["stories"],
    queryFn: async ({ signal }) =>
      decode.storyList(await call("StoryService/ListStories", { limit: 500 }, signal)),
    refetchInterval: 3000,
    retry,
  });
}

/** useStory follows one story; `open` names the folds to unfold. */
export function useStory(id: string, open: string[]) {
  return useQuery<Story>({
    queryKey: ["story", id, open],
    queryFn: async ({ signal }) => decode.story(await call("StoryService/GetStory", { id, open }, signal)),
    placeholderData: keepPreviousData,
    structuralSharing: (before, after) => {
      const [a, b] = [before as Story | undefined, after as Story];
      return a && a.id === b.id && a.version === b.version && a.version !== "" ? a : b;
    },
    refetchInterval: 2000,
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

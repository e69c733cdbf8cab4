// Which page stands at which address. Addresses live in the URL's fragment, so the page works below any path
// of any server, and what a person looks at does not show up in the logs of proxies.
import {
  createHashHistory,
  createRootRoute,
  createRoute,
  createRouter,
  redirect,
} from "@tanstack/react-router";
import { storySearch } from "../domain/view";
import { StoriesPage } from "../stories/StoriesPage";
import { StoryPage } from "../story/StoryPage";
import { Shell } from "./Shell";
import { CrashView, NotFound } from "./states";

const root = createRootRoute({ component: Shell, notFoundComponent: NotFound, errorComponent: CrashView });

const home = createRoute({
  getParentRoute: () => root,
  path: "/",
  beforeLoad: () => {
    throw redirect({ to: "/stories", replace: true });
  },
});

export const storiesRoute = createRoute({
  getParentRoute: () => root,
  path: "/stories",
  component: StoriesPage,
});

export const storyRoute = createRoute({
  getParentRoute: () => root,
  path: "/stories/$id",
  validateSearch: storySearch,
  component: StoryPage,
});

export const router = createRouter({
  routeTree: root.addChildren([home, storiesRoute, storyRoute]),
  history: createHashHistory(),
  // Parameters of ours are flat strings: written and read as they are, without JSON quoting.
  parseSearch: (text) => Object.fromEntries(new URLSearchParams(text)),
  stringifySearch: (search) => {
    const out = new URLSearchParams();
    for (const [key, value] of Object.entries(search)) {
      if (typeof value === "string" && value !== "") out.set(key, value);
    }
    const text = out.toString();
    return text === "" ? "" : `?${text}`;
  },
  defaultErrorComponent: CrashView,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}

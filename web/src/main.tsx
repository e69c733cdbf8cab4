import "./styles/fonts.css";
import "./styles/base.css";
import "./styles/tokens.css";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { PrefsProvider } from "./app/prefs";
import { router } from "./app/router";
import { ShortcutsProvider } from "./app/shortcuts";

// The component kit adds this rule by an inline style element, which the content security policy forbids, and
// leaves it out when an element of that id is there. The rule itself stands in base.css.
const placeholder = document.createElement("meta");
placeholder.id = "react-aria-pressable-style";
document.head.append(placeholder);

const queries = new QueryClient({ defaultOptions: { queries: { refetchOnWindowFocus: true } } });

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <QueryClientProvider client={queries}>
      <PrefsProvider>
        <ShortcutsProvider>
          <RouterProvider router={router} />
        </ShortcutsProvider>
      </PrefsProvider>
    </QueryClientProvider>
  </StrictMode>,
);

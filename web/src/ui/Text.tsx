// Text from events. It is never interpreted: pieces of it become text nodes and marks.
import { useState } from "react";
import { pieces, shownAtOnce, visible } from "../domain/text";

interface Props {
  children: string;
  mono?: boolean;
  /** What is shown in place of the text; the whole stays in the tooltip. */
  short?: string;
  className?: string;
}

export function Text({ children, mono = false, short, className = "" }: Props) {
  const [all, setAll] = useState(false);
  const shown = short ?? children;
  const cut = !all && shown.length > shownAtOnce ? shown.slice(0, shownAtOnce) : shown;
  const parts = pieces(cut);
  const name = [mono ? "mono" : "", className].filter((c) => c !== "").join(" ");
  return (
    <>
      <bdi
        className={name || undefined}
        title={short !== undefined && short !== children ? visible(children.slice(0, 1000)) : undefined}
      >
        {parts.length === 1 && parts[0]!.mark === ""
          ? cut
          : parts.map((p, i) =>
              p.mark === "" ? (
                p.text
              ) : (
                <span
                  key={i}
                  className="mark"
                  title={`U+${p.text.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}`}
                >
                  {p.mark}
                </span>
              ),
            )}
      </bdi>
      {cut.length < shown.length && (
        <button type="button" className="more" onClick={() => setAll(true)}>
          … {shown.length - cut.length} more characters, show all
        </button>
      )}
    </>
  );
}

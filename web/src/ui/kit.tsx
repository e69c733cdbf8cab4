// The parts of the component kit that the page uses, in our dress. Nothing outside this folder imports the kit.
import type { ReactNode } from "react";
import {
  Button as AriaButton,
  type ButtonProps as AriaButtonProps,
  Tab as AriaTab,
  TabList as AriaTabList,
  TabPanel as AriaTabPanel,
  Tabs as AriaTabs,
  Dialog,
  DialogTrigger,
  Heading,
  Modal,
  ModalOverlay,
  Popover,
  ToggleButton,
  ToggleButtonGroup,
} from "react-aria-components";
import { X } from "./icons";
import css from "./kit.module.css";

interface ButtonProps extends Omit<AriaButtonProps, "className" | "children"> {
  look?: "plain" | "solid" | "line" | "chip" | "link";
  icon?: boolean;
  title?: string;
  children: ReactNode;
  className?: string;
}

export function Button({
  look = "plain",
  icon = false,
  className = "",
  title,
  children,
  ...props
}: ButtonProps) {
  return (
    <AriaButton
      {...props}
      className={`${css.button} ${css[look] ?? ""} ${icon ? css.icon : ""} ${className}`}
    >
      {title === undefined ? children : <span title={title}>{children}</span>}
    </AriaButton>
  );
}

interface SwitchProps<T extends string> {
  label: string;
  value: T;
  options: { id: T; label: ReactNode; name?: string }[];
  onChange: (value: T) => void;
}

/** One of a few: a row of joined buttons. */
export function Segments<T extends string>({ label, value, options, onChange }: SwitchProps<T>) {
  return (
    <ToggleButtonGroup
      aria-label={label}
      className={css.segments!}
      selectionMode="single"
      disallowEmptySelection
      selectedKeys={[value]}
      onSelectionChange={(keys) => {
        const [key] = keys;
        if (key !== undefined) onChange(key as T);
      }}
    >
      {options.map((o) => (
        <ToggleButton key={o.id} id={o.id} aria-label={o.name ?? ""} className={css.segment!}>
          {o.label}
        </ToggleButton>
      ))}
    </ToggleButtonGroup>
  );
}

interface TabsProps<T extends string> {
  label: string;
  value: T;
  options: { id: T; label: ReactNode }[];
  onChange: (value: T) => void;
  /** What stands at the right end of the row. */
  tools?: ReactNode;
  children: ReactNode;
}

/** A row of tabs and the panel of the selected one. */
export function Tabs<T extends string>({ label, value, options, onChange, tools, children }: TabsProps<T>) {
  return (
    <AriaTabs
      selectedKey={value}
      onSelectionChange={(key) => onChange(key as T)}
      className={css.tabs!}
      keyboardActivation="manual"
    >
      <div className={css.tabRow}>
        <AriaTabList aria-label={label} className={css.tabList!}>
          {options.map((o) => (
            <AriaTab key={o.id} id={o.id} className={css.tab!}>
              {o.label}
            </AriaTab>
          ))}
        </AriaTabList>
        {tools}
      </div>
      <AriaTabPanel key={value} id={value} className={css.tabPanel!}>
        {children}
      </AriaTabPanel>
    </AriaTabs>
  );
}

/** A button that opens a small card next to it. */
export function Disclosed({
  label,
  title,
  children,
}: {
  label: ReactNode;
  title: string;
  children: ReactNode;
}) {
  return (
    <DialogTrigger>
      <AriaButton className={`${css.button} ${css.link}`}>{label}</AriaButton>
      <Popover
        className={css.popover!}
        placement="bottom start"
        offset={6}
        UNSTABLE_portalContainer={document.getElementById("overlays") ?? document.body}
      >
        <Dialog aria-label={title} className={css.dialog!}>
          {children}
        </Dialog>
      </Popover>
    </DialogTrigger>
  );
}

interface WindowProps {
  title: string;
  isOpen: boolean;
  onOpenChange: (open: boolean) => void;
  children: ReactNode;
}

/** A window over the page that takes the focus until it is closed. */
export function Window({ title, isOpen, onOpenChange, children }: WindowProps) {
  return (
    <ModalOverlay className={css.veil!} isOpen={isOpen} onOpenChange={onOpenChange} isDismissable>
      <Modal className={css.window!}>
        <Dialog className={css.dialog!}>
          <header className={css.windowHead}>
            <Heading slot="title" className={css.windowTitle!}>
              {title}
            </Heading>
            <AriaButton slot="close" aria-label="Close" className={`${css.button} ${css.icon}`}>
              <X size={16} aria-hidden="true" />
            </AriaButton>
          </header>
          {children}
        </Dialog>
      </Modal>
    </ModalOverlay>
  );
}

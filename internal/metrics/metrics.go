// Package metrics declares every number that clew exports: once, with its name,
// its unit, its labels and what it means. The agent fills in its own and sends
// them with its health, because it accepts no connection; the server adds its
// own and serves all of them; docs/reference/metrics.md is written from the
// same list.
//
// The names follow Prometheus: base units, _total on what only grows, and every
// label from a list that is closed or bounded.
package metrics

import (
	"cmp"
	"slices"
	"strings"
)

// A Type says what may be done with a number.
type Type string

// The types. A counter grows until what counts starts anew.
const (
	Counter Type = "counter"
	Gauge   Type = "gauge"
)

// A Side says who counts.
type Side string

// The sides. What the agent counts has the labels agent and host, which the
// server adds: it knows whom it talks to.
const (
	Agent  Side = "agent"
	Server Side = "server"
)

// AgentLabels go before a Desc's own on what an agent counts.
var AgentLabels = []string{"agent", "host"}

// An ID names a metric in code.
type ID int

// What an agent counts.
const (
	AgentInfo ID = iota
	AgentStart
	KernelEvents
	DecodedEvents
	KeptEvents
	UnwantedEvents
	LostEvents
	BlindSeconds
	MalformedRecords
	UnparsedMessages
	LateEvents
	RingSize
	RingUsed
	RingHigh
	BPFPrograms
	BPFRunSeconds
	BPFRuns
	StreamRecords
	Signals
	RuleMatches
	RuleSampledSeconds
	RuleSampled
	RulesLoaded
	RulesLoads
	RulesLoadedAt
	Processes
	Contexts
	HotContexts
	Canaries
	CanarySeconds
	SpoolBytes
	SpoolRecords
	SpoolBatches
	SpoolAcked
	SpoolAge
	SpoolFull
	PushSessions
	AgentCPU
	AgentResident
	AgentMemory
	AgentMemoryCeiling
	AgentCPUCeiling
	FileAnswers
	FileBytes
	FilesWaiting
	AgentThrottled
	AgentPressure

	// What the server counts.

	AgentConnected
	AgentLastSeen
	ServerInfo
	ServerStart
	IngestedBatches
	IngestedRecords
	StoredEvents
	StoredBytes
	Stories
	RefusedSamples

	numIDs
)

// MaxRules is how many rules an agent tells apart; matches of the others are
// counted together as OtherRules.
const (
	MaxRules   = 1000
	OtherRules = "(others)"
)

// A Desc describes one metric.
type Desc struct {
	ID     ID
	Name   string
	Type   Type
	Side   Side
	Labels []string
	// Series is the largest number of label combinations, per agent where an
	// agent counts. What goes beyond is not exported, and counted.
	Series int
	Help   string
}

// limits of labels with closed lists.
const (
	kinds    = 64 // event kinds
	reasons  = 32 // reasons of losses
	programs = 1024
)

var descs = [numIDs]Desc{
	AgentInfo:        {Name: "clew_agent_info", Type: Gauge, Labels: []string{"version", "mode", "kernel"}, Series: 1, Help: "Always 1; says which agent this is."},
	AgentStart:       {Name: "clew_agent_start_timestamp_seconds", Type: Gauge, Help: "When the agent's run began."},
	KernelEvents:     {Name: "clew_agent_kernel_events_total", Type: Counter, Labels: []string{"kind", "outcome"}, Series: 4 * kinds, Help: "What became, in the kernel, of the observations of a kind: sent to the agent, filtered because no rule or context wanted it, ignored (failed calls that are not reported, our own, no change) or lost. The four add up to what was seen."},
	DecodedEvents:    {Name: "clew_agent_decoded_events_total", Type: Counter, Labels: []string{"kind"}, Series: kinds, Help: "Events read from the rings and passed on."},
	KeptEvents:       {Name: "clew_agent_kept_events_total", Type: Counter, Labels: []string{"kind"}, Series: kinds, Help: "Events written to the spool."},
	UnwantedEvents:   {Name: "clew_agent_unwanted_events_total", Type: Counter, Labels: []string{"kind"}, Series: kinds, Help: "Events that reached the agent and that no rule, hot context or baseline wanted."},
	LostEvents:       {Name: "clew_agent_lost_events_total", Type: Counter, Labels: []string{"kind", "reason"}, Series: kinds * reasons, Help: "Events that are missing, by kind and reason, wherever they were lost. Kind is empty where it is not known."},
	BlindSeconds:     {Name: "clew_agent_blind_seconds_total", Type: Counter, Help: "Time of which nothing is known, as between two runs of the agent, found since this run began."},
	MalformedRecords: {Name: "clew_agent_malformed_records_total", Type: Counter, Help: "Records of the kernel that could not be read. Other than 0 is a fault of clew."},
	UnparsedMessages: {Name: "clew_agent_unparsed_messages_total", Type: Counter, Help: "Messages on a name server's port that are no DNS."},
	LateEvents:       {Name: "clew_agent_late_events_total", Type: Counter, Help: "Events that were passed on after younger ones."},
	RingSize:         {Name: "clew_agent_ring_size_bytes", Type: Gauge, Labels: []string{"ring"}, Series: 2, Help: "Size of a ring, critical or bulk."},
	RingUsed:         {Name: "clew_agent_ring_used_bytes", Type: Gauge, Labels: []string{"ring"}, Series: 2, Help: "What waited on a ring when it was looked at."},
	RingHigh:         {Name: "clew_agent_ring_used_high_bytes", Type: Gauge, Labels: []string{"ring"}, Series: 2, Help: "The most that has waited on a ring when it was read, since the run began."},
	BPFPrograms:      {Name: "clew_agent_bpf_programs", Type: Gauge, Help: "BPF programs that are loaded."},
	BPFRunSeconds:    {Name: "clew_agent_bpf_run_seconds_total", Type: Counter, Labels: []string{"program"}, Series: programs, Help: "Processor time of a BPF program since it was loaded. Only while the sysctl kernel.bpf_stats_enabled is 1."},
	BPFRuns:          {Name: "clew_agent_bpf_runs_total", Type: Counter, Labels: []string{"program"}, Series: programs, Help: "Runs of a BPF program since it was loaded. Only while the sysctl kernel.bpf_stats_enabled is 1."},

	StreamRecords:      {Name: "clew_agent_stream_records_total", Type: Counter, Help: "Records of the stream that went through the pipeline."},
	Signals:            {Name: "clew_agent_signals_total", Type: Counter, Help: "Events with at least one signal."},
	RuleMatches:        {Name: "clew_agent_rule_matches_total", Type: Counter, Labels: []string{"rule"}, Series: MaxRules + 1, Help: "Signals of a rule, after its rate limit. At most 1,000 rules that matched have a series; the others share \"" + OtherRules + "\"."},
	RuleSampledSeconds: {Name: "clew_agent_rule_evaluation_sampled_seconds_total", Type: Counter, Help: "Time spent in evaluating rules for the events that were timed, one in 32."},
	RuleSampled:        {Name: "clew_agent_rule_evaluations_sampled_total", Type: Counter, Help: "Events whose evaluation was timed."},
	RulesLoaded:        {Name: "clew_agent_rules", Type: Gauge, Labels: []string{"status"}, Series: 3, Help: "Rules by what became of them: loaded, filtered (not for this host) or error."},
	RulesLoads:         {Name: "clew_agent_rules_loads_total", Type: Counter, Help: "How often rules were loaded in this run."},
	RulesLoadedAt:      {Name: "clew_agent_rules_loaded_timestamp_seconds", Type: Gauge, Help: "When the rules in force were loaded."},
	Processes:          {Name: "clew_agent_processes", Type: Gauge, Help: "Living processes in the process table."},
	Contexts:           {Name: "clew_agent_contexts", Type: Gauge, Help: "Execution contexts that are remembered."},
	HotContexts:        {Name: "clew_agent_hot_contexts", Type: Gauge, Help: "Execution contexts that are hot."},
	Canaries:           {Name: "clew_agent_canaries_total", Type: Counter, Help: "Probes that went through the kernel's hooks and both rings."},
	CanarySeconds:      {Name: "clew_agent_canary_seconds", Type: Gauge, Help: "How long the last probe took from the system call to the agent."},
	SpoolBytes:         {Name: "clew_agent_spool_bytes", Type: Gauge, Help: "Size of the spool on disk."},
	SpoolRecords:       {Name: "clew_agent_spool_records", Type: Gauge, Help: "Records in the spool that the server has not acknowledged."},
	SpoolBatches:       {Name: "clew_agent_spool_batches_total", Type: Counter, Help: "Batches written to the spool."},
	SpoolAcked:         {Name: "clew_agent_spool_acked_batches_total", Type: Counter, Help: "Batches that the server has acknowledged."},
	SpoolAge:           {Name: "clew_agent_spool_age_seconds", Type: Gauge, Help: "Age of the oldest part of the spool that holds records which are not acknowledged; 0 when there are none."},
	SpoolFull:          {Name: "clew_agent_spool_full_ratio", Type: Gauge, Help: "By how much of its limit the spool is full, 0 to 1."},
	PushSessions:       {Name: "clew_agent_sessions_total", Type: Counter, Help: "Connections to the server that were welcomed."},
	AgentCPU:           {Name: "clew_agent_cpu_seconds_total", Type: Counter, Labels: []string{"mode"}, Series: 2, Help: "Processor time of the agent, user or system. What its programs take in the kernel is the processes' that they watch."},
	AgentResident:      {Name: "clew_agent_resident_bytes", Type: Gauge, Help: "Resident memory of the agent, rings included."},
	AgentMemory:        {Name: "clew_agent_memory_bytes", Type: Gauge, Help: "Memory that counts against the agent's ceiling and cannot be given back: the process, and what the kernel holds for it. Only in a control group."},
	AgentMemoryCeiling: {Name: "clew_agent_memory_ceiling_bytes", Type: Gauge, Help: "The agent's memory ceiling; absent where there is none."},
	AgentCPUCeiling:    {Name: "clew_agent_cpu_ceiling_cores", Type: Gauge, Help: "The agent's processor ceiling; absent where there is none."},
	FileAnswers:        {Name: "clew_agent_file_answers_total", Type: Counter, Labels: []string{"result"}, Series: 20, Help: "Answers to what is in a file that an event was about: hash, or the reason why there is none: vanished, replaced, still_open, too_large, rate and others."},
	FileBytes:          {Name: "clew_agent_file_read_bytes_total", Type: Counter, Help: "Bytes of files that were read to hash them."},
	FilesWaiting:       {Name: "clew_agent_files_waiting", Type: Gauge, Help: "Questions about files that have not been answered."},
	AgentThrottled:     {Name: "clew_agent_cpu_throttled_seconds_total", Type: Counter, Help: "Time that threads of the agent were held at the processor ceiling."},
	AgentPressure:      {Name: "clew_agent_pressure_level", Type: Gauge, Help: "How near the agent is to its memory ceiling: 0 far, 1 near, 2 at it. From 1 on it gives up depth, never events."},

	AgentConnected:  {Name: "clew_agent_connected", Type: Gauge, Side: Server, Labels: AgentLabels, Series: 1 << 20, Help: "1 while the agent is connected to this server, else 0."},
	AgentLastSeen:   {Name: "clew_agent_last_seen_timestamp_seconds", Type: Gauge, Side: Server, Labels: AgentLabels, Series: 1 << 20, Help: "When the agent last said anything."},
	ServerInfo:      {Name: "clew_server_info", Type: Gauge, Side: Server, Labels: []string{"version", "goversion"}, Series: 1, Help: "Always 1; says which server this is."},
	ServerStart:     {Name: "clew_server_start_timestamp_seconds", Type: Gauge, Side: Server, Help: "When the server began."},
	IngestedBatches: {Name: "clew_server_ingested_batches_total", Type: Counter, Side: Server, Labels: []string{"result"}, Series: 4, Help: "Batches of agents: stored, duplicate (came again), malformed (refused) or failed (the store did not take it; it comes again)."},
	IngestedRecords: {Name: "clew_server_ingested_records_total", Type: Counter, Side: Server, Help: "Records in stored batches."},
	StoredEvents:    {Name: "clew_server_stored_events", Type: Gauge, Side: Server, Help: "Events in the store."},
	StoredBytes:     {Name: "clew_server_store_bytes", Type: Gauge, Side: Server, Help: "Size of the store on disk."},
	Stories:         {Name: "clew_server_stories", Type: Gauge, Side: Server, Help: "Stories."},
	RefusedSamples:  {Name: "clew_server_refused_samples", Type: Gauge, Side: Server, Help: "Numbers that connected agents sent last and that are not exported: of an unknown name, with other labels, or too many."},
}

// All returns the metrics, those of the agent first, in the order of the page.
func All() []Desc {
	out := slices.Clone(descs[:])
	for i := range out {
		out[i].ID = ID(i)
		out[i].Side = cmp.Or(out[i].Side, Agent)
		out[i].Series = max(out[i].Series, 1)
	}
	return out
}

// Describe returns one metric.
func Describe(id ID) Desc {
	d := descs[id]
	d.ID, d.Side, d.Series = id, cmp.Or(d.Side, Agent), max(d.Series, 1)
	return d
}

// A Sample is one number. Labels are the values of the Desc's labels.
type Sample struct {
	ID     ID
	Labels []string
	Value  float64
}

// A Set collects samples.
type Set struct{ Samples []Sample }

// Add adds a number.
func (s *Set) Add(id ID, v float64, labels ...string) {
	s.Samples = append(s.Samples, Sample{ID: id, Labels: labels, Value: v})
}

// Check tells what is wrong with a name, in the manner of promlint; "" when
// nothing is.
func (d Desc) Check() string {
	switch {
	case !strings.HasPrefix(d.Name, "clew_"):
		return "does not begin with clew_"
	case (d.Type == Counter) != strings.HasSuffix(d.Name, "_total"):
		return "counters, and only they, end in _total"
	case d.Help == "" || !strings.HasSuffix(d.Help, "."):
		return "help is no sentence"
	case len(d.Labels) > 0 && d.Series < 2 && !strings.HasSuffix(d.Name, "_info"):
		return "labels of one value"
	}
	return ""
}

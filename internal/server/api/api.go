// Package api answers people and programs: the services of clew.v1 but ingest.
// Who may call what is a table here; who calls is found out by
// internal/server/auth.
package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/clewsec/clew/internal/control"
	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/gen/clew/v1/clewv1connect"
	"github.com/clewsec/clew/internal/server/apijson"
	"github.com/clewsec/clew/internal/server/auth"
	"github.com/clewsec/clew/internal/server/eventview"
	"github.com/clewsec/clew/internal/server/live"
	"github.com/clewsec/clew/internal/server/story"
	"github.com/clewsec/clew/internal/store"
)

// Needs says which role each procedure needs; one that is not here may be
// called by nobody.
func Needs() map[string]auth.Role {
	return map[string]auth.Role{
		clewv1connect.StoryServiceListStoriesProcedure:    auth.Viewer,
		clewv1connect.StoryServiceGetStoryProcedure:       auth.Viewer,
		clewv1connect.StoryServiceWatchStoriesProcedure:   auth.Viewer,
		clewv1connect.StoryServiceSetTriageProcedure:      auth.Analyst,
		clewv1connect.EventServiceSearchEventsProcedure:   auth.Viewer,
		clewv1connect.EventServiceTailEventsProcedure:     auth.Viewer,
		clewv1connect.FleetServiceGetStatusProcedure:      auth.Viewer,
		clewv1connect.RuleServiceListRulesProcedure:       auth.Viewer,
		clewv1connect.BacktestServiceRunBacktestProcedure: auth.Analyst,
		clewv1connect.SessionServiceCreateLoginProcedure:  auth.Admin,
		clewv1connect.SessionServiceCreateTokenProcedure:  auth.Admin,
		clewv1connect.SessionServiceRemoveTokenProcedure:  auth.Admin,
		clewv1connect.SessionServiceWhoAmIProcedure:       auth.Viewer,
	}
}

// Bounds of lists and texts in requests.
const (
	defaultStories = 50
	maxStories     = 500
	maxText        = 4096
	maxComment     = 64 << 10
	maxRequest     = 1 << 20
	maxList        = 1000
)

// coalesce is how long changes are gathered before a watcher is told: short
// enough to seem immediate, long enough that a burst is one message.
const coalesce = 50 * time.Millisecond

// Config joins the API with what it shows.
type Config struct {
	Store   store.Store
	Control *control.DB
	Stories *live.Stories
	Source  *live.Source
	Agents  *live.Agents
	Tail    *live.Tail
	Now     func() time.Time
	// Trouble says why what agents send cannot be stored now; nil when it can.
	Trouble func() error

	Version   string
	StartedAt time.Time
	PID       int
	UID       uint32
	Listen    string // address the page is at; empty when there is none
}

// An API implements the services.
type API struct{ cfg Config }

// New returns the services.
func New(cfg Config) *API { return &API{cfg: cfg} }

// codec prints JSON as apijson does, so that an answer has the same bytes
// wherever it is shown.
type codec struct{}

func (codec) Name() string { return "json" }

func (codec) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("print %T as JSON: not a message", v)
	}
	return apijson.Marshal(m)
}

func (codec) Unmarshal(b []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("read %T from JSON: not a message", v)
	}
	if len(b) == 0 {
		return errors.New("read JSON: nothing there")
	}
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(b, m)
}

// Routes adds the services to mux.
func (a *API) Routes(mux *http.ServeMux, g *auth.Guard) {
	opts := []connect.HandlerOption{
		connect.WithInterceptors(g.Require(Needs())), connect.WithReadMaxBytes(maxRequest), connect.WithCodec(codec{}),
	}
	mux.Handle(clewv1connect.NewStoryServiceHandler(a, opts...))
	mux.Handle(clewv1connect.NewEventServiceHandler(a, opts...))
	mux.Handle(clewv1connect.NewFleetServiceHandler(a, opts...))
	mux.Handle(clewv1connect.NewRuleServiceHandler(a, opts...))
	mux.Handle(clewv1connect.NewSessionServiceHandler(a, opts...))
	mux.Handle(clewv1connect.NewBacktestServiceHandler(newBacktests(a.cfg), append(opts, connect.WithReadMaxBytes(maxPolicies))...))
}

func invalid(format string, args ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(format, args...))
}

// internalError hides nothing: those who may ask are those who run the server.
func internalError(err error) error {
	if errors.Is(err, context.Canceled) {
		return connect.NewError(connect.CodeCanceled, err)
	}
	return connect.NewError(connect.CodeInternal, err)
}

// ListStories implements clewv1connect.StoryServiceHandler.
func (a *API) ListStories(_ context.Context, req *connect.Request[clewv1.ListStoriesRequest]) (*connect.Response[clewv1.ListStoriesResponse], error) {
	m := req.Msg
	limit := int(m.Limit)
	if limit <= 0 {
		limit = defaultStories
	}
	limit = min(limit, maxStories)
	states := map[string]bool{}
	for _, s := range m.States {
		if !slices.Contains(triageStates, s) {
			return nil, invalid("unknown state %.40q: open, under_review, archived", s)
		}
		states[s] = true
	}
	asOf := a.cfg.Stories.AsOf(a.recording())
	heads := a.cfg.Stories.Heads(asOf)
	if len(states) > 0 {
		heads = slices.DeleteFunc(heads, func(h story.Head) bool { return !states[h.Story.State] })
	}
	from := 0
	if m.Cursor != "" {
		c, err := parseStoryCursor(m.Cursor)
		if err != nil {
			return nil, err
		}
		from, _ = slices.BinarySearchFunc(heads, c, func(h story.Head, c storyCursor) int {
			if c.before(&h) {
				return 1
			}
			return -1
		})
	}
	resp := &clewv1.ListStoriesResponse{Total: &clewv1.Total{Value: int64(len(heads)), Exact: true}, AsOf: timestamp(asOf)}
	for _, h := range heads[from:min(from+limit, len(heads))] {
		resp.Items = append(resp.Items, h.Story)
	}
	if from+limit < len(heads) {
		resp.NextCursor = cursorAfter(&heads[from+limit-1])
	}
	return connect.NewResponse(resp), nil
}

// A storyCursor is the place of a story in the list: it holds while scores of
// others change.
type storyCursor struct {
	score int32
	last  int64
	id    string
}

func cursorAfter(h *story.Head) string {
	return fmt.Sprintf("%d.%d.%s", h.Story.Score, h.Last, h.Story.Id)
}

func parseStoryCursor(s string) (storyCursor, error) {
	parts := strings.SplitN(s, ".", 3)
	if len(parts) != 3 {
		return storyCursor{}, invalid("unknown cursor %.80q", s)
	}
	score, err1 := strconv.ParseInt(parts[0], 10, 32)
	last, err2 := strconv.ParseInt(parts[1], 10, 64)
	if err1 != nil || err2 != nil {
		return storyCursor{}, invalid("unknown cursor %.80q", s)
	}
	return storyCursor{int32(score), last, parts[2]}, nil
}

// before tells whether h comes after the cursor in the list.
func (c storyCursor) before(h *story.Head) bool {
	switch {
	case h.Story.Score != c.score:
		return h.Story.Score < c.score
	case h.Last != c.last:
		return h.Last < c.last
	}
	return h.Story.Id > c.id
}

func timestamp(ns int64) *timestamppb.Timestamp { return timestamppb.New(time.Unix(0, ns)) }

// GetStory implements clewv1connect.StoryServiceHandler.
func (a *API) GetStory(_ context.Context, req *connect.Request[clewv1.GetStoryRequest]) (*connect.Response[clewv1.GetStoryResponse], error) {
	m := req.Msg
	if m.Id == "" || len(m.Id) > maxText {
		return nil, invalid("which story? id is missing")
	}
	if len(m.Open) > maxList {
		return nil, invalid("more than %d folds to open", maxList)
	}
	s, err := a.cfg.Stories.Build(m.Id, story.Options{AsOf: a.cfg.Stories.AsOf(a.recording()), Budget: int(m.Budget), Open: m.Open})
	if errors.Is(err, story.ErrNotFound) {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no story %.40s", m.Id))
	}
	if err != nil {
		return nil, internalError(err)
	}
	return connect.NewResponse(&clewv1.GetStoryResponse{Story: s}), nil
}

// WatchStories implements clewv1connect.StoryServiceHandler. It begins with
// the version of every story, or of the one asked for.
func (a *API) WatchStories(ctx context.Context, req *connect.Request[clewv1.WatchStoriesRequest], stream *connect.ServerStream[clewv1.WatchStoriesResponse]) error {
	w := a.cfg.Stories.Watch()
	defer w.Close()
	var ids []string
	if req.Msg.Id != "" {
		ids = []string{req.Msg.Id}
	} else {
		for _, h := range a.cfg.Stories.Heads(0) {
			ids = append(ids, h.Story.Id)
		}
	}
	first := true
	for {
		if err := a.sendVersions(stream, req.Msg.Id, ids, first); err != nil {
			return err
		}
		first = false
		select {
		case <-ctx.Done():
			return nil
		case <-w.Ready():
		}
		timer := time.NewTimer(coalesce)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		ids = w.Take()
	}
}

// sendVersions sends the versions of the stories that ids lead to.
func (a *API) sendVersions(stream *connect.ServerStream[clewv1.WatchStoriesResponse], only string, ids []string, always bool) error {
	if only != "" {
		now, _, ok := a.cfg.Stories.Version(only)
		if !ok {
			return connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no story %.40s", only))
		}
		only = now
	}
	seen := map[string]bool{}
	resp := &clewv1.WatchStoriesResponse{AsOf: timestamp(a.cfg.Now().UnixNano())}
	slices.Sort(ids)
	for _, id := range ids {
		now, version, ok := a.cfg.Stories.Version(id)
		if !ok || seen[now] || (only != "" && now != only) {
			continue
		}
		seen[now] = true
		resp.Items = append(resp.Items, &clewv1.StoryVersion{Id: now, Version: version})
	}
	if len(resp.Items) == 0 && !always {
		return nil
	}
	return stream.Send(resp)
}

var (
	triageStates   = []string{"open", "under_review", "archived"}
	triageVerdicts = []string{"unset", "malicious", "suspicious", "expected_activity", "exercise", "false_positive"}
)

// SetTriage implements clewv1connect.StoryServiceHandler.
func (a *API) SetTriage(ctx context.Context, req *connect.Request[clewv1.SetTriageRequest]) (*connect.Response[clewv1.SetTriageResponse], error) {
	m := req.Msg
	now, _, ok := a.cfg.Stories.Version(m.Id)
	switch {
	case !ok:
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no story %.40s", m.Id))
	case m.State != "" && !slices.Contains(triageStates, m.State):
		return nil, invalid("unknown state %.40q: %s", m.State, strings.Join(triageStates, ", "))
	case m.Verdict != "" && !slices.Contains(triageVerdicts, m.Verdict):
		return nil, invalid("unknown verdict %.40q: %s", m.Verdict, strings.Join(triageVerdicts, ", "))
	case len(m.Assignee) > maxText || len(m.Comment) > maxComment:
		return nil, invalid("assignee or comment is too long")
	case m.State == "" && m.Verdict == "" && m.Assignee == "" && m.Comment == "":
		return nil, invalid("nothing to change")
	}
	t := control.Triage{
		StoryID: now, At: a.cfg.Now().UnixNano(), Actor: auth.From(ctx).Actor,
		State: m.State, Verdict: m.Verdict, Assignee: m.Assignee, Comment: m.Comment,
	}
	if err := a.cfg.Control.AddTriage(ctx, t); err != nil {
		return nil, internalError(err)
	}
	a.cfg.Stories.Triage(t)
	s, err := a.cfg.Stories.Build(now, story.Options{AsOf: a.cfg.Stories.AsOf(a.recording())})
	if err != nil {
		return nil, internalError(err)
	}
	return connect.NewResponse(&clewv1.SetTriageResponse{Story: s}), nil
}

// SearchEvents implements clewv1connect.EventServiceHandler.
func (a *API) SearchEvents(ctx context.Context, req *connect.Request[clewv1.SearchEventsRequest]) (*connect.Response[clewv1.SearchEventsResponse], error) {
	q, err := a.query(req.Msg)
	if err != nil {
		return nil, err
	}
	page, err := a.cfg.Store.Search(ctx, q)
	if errors.Is(err, store.ErrCursor) {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	if err != nil {
		return nil, internalError(err)
	}
	views, err := eventview.Views(page.Items, a.cfg.Source, a.cfg.Agents.Host)
	if err != nil {
		return nil, internalError(err)
	}
	return connect.NewResponse(&clewv1.SearchEventsResponse{
		Items: views, NextCursor: page.Next, Total: &clewv1.Total{Value: page.Total, Exact: page.Exact}, AsOf: timestamp(a.cfg.Now().UnixNano()),
	}), nil
}

func (a *API) query(m *clewv1.SearchEventsRequest) (store.Query, error) {
	q := store.Query{Rule: m.RuleId, Text: m.Text, After: m.Cursor, Limit: int(m.Limit), Count: true}
	if len(m.Text) > maxText || len(m.RuleId) > maxText || len(m.ContextKey) > maxText || len(m.Kinds) > maxList || len(m.Ids) > store.MaxLimit {
		return q, invalid("the question is too long")
	}
	kinds, err := kindsOf(m.Kinds)
	if err != nil {
		return q, err
	}
	q.Kinds = kinds
	if q.From, err = nanoseconds(m.From); err != nil {
		return q, err
	}
	if q.To, err = nanoseconds(m.To); err != nil {
		return q, err
	}
	if m.ContextKey != "" {
		q.ContextKeys = []string{m.ContextKey}
	}
	if m.StoryId != "" {
		agent, keys, ok := a.cfg.Stories.Keys(m.StoryId)
		if !ok {
			return q, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no story %.40s", m.StoryId))
		}
		q.Agent, q.Correlation = agent, keys
	}
	for _, id := range m.Ids {
		e, ok := parseEventID(id)
		if !ok {
			return q, invalid("%.80q is no id of an event", id)
		}
		q.IDs = append(q.IDs, e)
	}
	return q, nil
}

// nanoseconds is a time of a question, 0 when none is given. The store's times
// end in the year 2262.
func nanoseconds(t *timestamppb.Timestamp) (int64, error) {
	if t == nil {
		return 0, nil
	}
	const end = 9_223_372_036
	if t.CheckValid() != nil || t.Seconds >= end || t.Seconds <= -end {
		return 0, invalid("there are no events at that time")
	}
	return t.AsTime().UnixNano(), nil
}

func kindsOf(names []string) ([]event.Kind, error) {
	var kinds []event.Kind
	for _, name := range names {
		k, ok := event.KindByName(name)
		if !ok {
			return nil, invalid("unknown kind of event %.40q", name)
		}
		kinds = append(kinds, k)
	}
	return kinds, nil
}

// TailEvents implements clewv1connect.EventServiceHandler.
func (a *API) TailEvents(ctx context.Context, req *connect.Request[clewv1.TailEventsRequest], stream *connect.ServerStream[clewv1.TailEventsResponse]) error {
	if len(req.Msg.Kinds) > maxList {
		return invalid("the question is too long")
	}
	kinds, err := kindsOf(req.Msg.Kinds)
	if err != nil {
		return err
	}
	var want [event.NumKinds]bool
	for _, k := range kinds {
		want[k] = true
	}
	w := a.cfg.Tail.Watch(func(f store.Found) bool {
		return len(kinds) == 0 || (int(f.Event.Kind) < len(want) && want[f.Event.Kind])
	})
	defer w.Close()
	// The caller learns that it is connected before anything happens.
	if err := stream.Send(&clewv1.TailEventsResponse{}); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.Ready():
		}
		items, skipped := w.Take()
		for len(items) > 0 || skipped > 0 {
			part := items[:min(len(items), 100)]
			items = items[len(part):]
			views, err := eventview.Views(part, a.cfg.Source, a.cfg.Agents.Host)
			if err != nil {
				return internalError(err)
			}
			if err := stream.Send(&clewv1.TailEventsResponse{Items: views, Skipped: skipped}); err != nil {
				return err
			}
			skipped = 0
		}
	}
}

var tokenName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// CreateLogin implements clewv1connect.SessionServiceHandler.
func (a *API) CreateLogin(ctx context.Context, _ *connect.Request[clewv1.CreateLoginRequest]) (*connect.Response[clewv1.CreateLoginResponse], error) {
	id := auth.From(ctx)
	if !id.Local {
		return nil, connect.NewError(connect.CodePermissionDenied, errors.New("links are made on the server's host only: clew login"))
	}
	if a.cfg.Listen == "" {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("this server serves no page"))
	}
	secret, expires, err := a.cfg.Control.CreateLogin(ctx, control.Holder{Actor: id.Actor, Role: auth.Admin.String()})
	if err != nil {
		return nil, internalError(err)
	}
	return connect.NewResponse(&clewv1.CreateLoginResponse{
		Url: "http://" + a.cfg.Listen + "/login?token=" + secret, Expires: timestamppb.New(expires),
	}), nil
}

// CreateToken implements clewv1connect.SessionServiceHandler.
func (a *API) CreateToken(ctx context.Context, req *connect.Request[clewv1.CreateTokenRequest]) (*connect.Response[clewv1.CreateTokenResponse], error) {
	m := req.Msg
	role := auth.Viewer
	if m.Role != "" {
		role = auth.ParseRole(m.Role)
	}
	if role == auth.None {
		return nil, invalid("unknown role %.40q: viewer, analyst, responder, admin", m.Role)
	}
	if !tokenName.MatchString(m.Name) {
		return nil, invalid("a token's name has 1 to 64 letters, digits, \".\", \"_\" and \"-\"")
	}
	secret, err := a.cfg.Control.CreateToken(ctx, m.Name, control.Holder{Actor: auth.From(ctx).Actor, Role: role.String()})
	if errors.Is(err, control.ErrExists) {
		return nil, connect.NewError(connect.CodeAlreadyExists, fmt.Errorf("there is a token %s", m.Name))
	}
	if err != nil {
		return nil, internalError(err)
	}
	return connect.NewResponse(&clewv1.CreateTokenResponse{Token: secret}), nil
}

// RemoveToken implements clewv1connect.SessionServiceHandler.
func (a *API) RemoveToken(ctx context.Context, req *connect.Request[clewv1.RemoveTokenRequest]) (*connect.Response[clewv1.RemoveTokenResponse], error) {
	err := a.cfg.Control.RemoveToken(ctx, req.Msg.Name, auth.From(ctx).Actor)
	if errors.Is(err, control.ErrCredential) {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no token %.80q", req.Msg.Name))
	}
	if err != nil {
		return nil, internalError(err)
	}
	return connect.NewResponse(&clewv1.RemoveTokenResponse{}), nil
}

// WhoAmI implements clewv1connect.SessionServiceHandler.
func (a *API) WhoAmI(ctx context.Context, _ *connect.Request[clewv1.WhoAmIRequest]) (*connect.Response[clewv1.WhoAmIResponse], error) {
	id := auth.From(ctx)
	return connect.NewResponse(&clewv1.WhoAmIResponse{Actor: id.Actor, Role: id.Role.String()}), nil
}

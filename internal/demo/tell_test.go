package demo

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
)

// shelf is a server with stories that change with each time it is asked.
type shelf struct {
	t     *testing.T
	asked int
	at    func(asked int) ([]*clewv1.Story, error)
}

func (s *shelf) ListStories(context.Context, *connect.Request[clewv1.ListStoriesRequest]) (*connect.Response[clewv1.ListStoriesResponse], error) {
	s.asked++
	stories, err := s.at(s.asked)
	if err != nil {
		return nil, err
	}
	resp := &clewv1.ListStoriesResponse{}
	for _, st := range stories {
		resp.Items = append(resp.Items, &clewv1.Story{Id: st.Id, Version: st.Version, LastSeen: st.LastSeen})
	}
	return connect.NewResponse(resp), nil
}

func (s *shelf) GetStory(_ context.Context, req *connect.Request[clewv1.GetStoryRequest]) (*connect.Response[clewv1.GetStoryResponse], error) {
	stories, err := s.at(s.asked)
	if err != nil {
		return nil, err
	}
	for _, st := range stories {
		if st.Id == req.Msg.GetId() {
			return connect.NewResponse(&clewv1.GetStoryResponse{Story: st}), nil
		}
	}
	s.t.Errorf("asked for story %q", req.Msg.GetId())
	return nil, connect.NewError(connect.CodeNotFound, errors.New("no such story"))
}

func TestFind(t *testing.T) {
	since := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	steps := []Step{{Name: "a", Marker: "/t/a"}, {Name: "b", Marker: "203.0.113.66"}}
	story := func(id string, age time.Duration, version int, labels ...string) *clewv1.Story {
		st := &clewv1.Story{Id: id, Version: strconv.Itoa(version), LastSeen: timestamppb.New(since.Add(age)), Graph: &clewv1.Graph{}}
		for _, l := range labels {
			st.Graph.Nodes = append(st.Graph.Nodes, &clewv1.Node{Label: l})
		}
		return st
	}
	for _, tt := range []struct {
		name     string
		at       func(asked int) ([]*clewv1.Story, error)
		complete bool
		story    string
		told     []bool
		err      bool
	}{
		{
			name: "grows until whole",
			at: func(asked int) ([]*clewv1.Story, error) {
				if asked < 3 {
					return []*clewv1.Story{story("st_1", 1, 1, "/t/a")}, nil
				}
				return []*clewv1.Story{story("st_1", 1, 2, "/t/a", "203.0.113.66:80")}, nil
			},
			complete: true, story: "st_1", told: []bool{true, true},
		},
		{
			name: "two halves are no whole",
			at: func(int) ([]*clewv1.Story, error) {
				return []*clewv1.Story{story("st_1", 1, 1, "/t/a"), story("st_2", 1, 1, "203.0.113.66")}, nil
			},
			story: "st_1", told: []bool{true, false},
		},
		{
			name: "an earlier attack",
			at: func(int) ([]*clewv1.Story, error) {
				return []*clewv1.Story{story("st_1", -1, 1, "/t/a", "203.0.113.66")}, nil
			},
			told: []bool{false, false},
		},
		{
			name: "a server that stumbles",
			at: func(asked int) ([]*clewv1.Story, error) {
				if asked == 1 {
					return nil, errors.New("busy")
				}
				return []*clewv1.Story{story("st_1", 1, 1, "/t/a", "203.0.113.66")}, nil
			},
			complete: true, story: "st_1", told: []bool{true, true},
		},
		{
			name: "no server",
			at:   func(int) ([]*clewv1.Story, error) { return nil, errors.New("gone") },
			told: []bool{false, false}, err: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			timeout := 10 * time.Second
			if !tt.complete {
				timeout = 3 * askEvery / 2
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			got, err := Find(ctx, &shelf{t: t, at: tt.at}, since, steps)
			if (err != nil) != tt.err {
				t.Errorf("error %v", err)
			}
			if got.Complete() != tt.complete || got.Story.GetId() != tt.story {
				t.Errorf("complete %v in story %q, want %v in %q", got.Complete(), got.Story.GetId(), tt.complete, tt.story)
			}
			for i := range tt.told {
				if got.Told[i] != tt.told[i] {
					t.Errorf("step %s told: %v, want %v", steps[i].Name, got.Told[i], tt.told[i])
				}
			}
		})
	}
}

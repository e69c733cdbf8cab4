package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"

	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
)

// Stories is what Find asks: the part of the API's story service that it
// needs.
type Stories interface {
	ListStories(context.Context, *connect.Request[clewv1.ListStoriesRequest]) (*connect.Response[clewv1.ListStoriesResponse], error)
	GetStory(context.Context, *connect.Request[clewv1.GetStoryRequest]) (*connect.Response[clewv1.GetStoryResponse], error)
}

// A Telling is how much of an attack one story tells.
type Telling struct {
	Story *clewv1.Story // nil when no story tells anything of it
	Told  []bool        // per step
}

// Complete reports whether every step is told.
func (t Telling) Complete() bool {
	return t.Story != nil && t.count() == len(t.Told)
}

func (t Telling) count() int {
	n := 0
	for _, told := range t.Told {
		if told {
			n++
		}
	}
	return n
}

// askEvery is how often Find asks for news.
const askEvery = 200 * time.Millisecond

// wholeGraph asks for as many nodes as the API gives.
const wholeGraph = 500

// Find asks until one story that goes on after since tells every step, or ctx
// ends. Either way it returns the story that tells most, of several the first
// in the server's order. The error is not nil when the server could not be
// asked at all.
func Find(ctx context.Context, stories Stories, since time.Time, steps []Step) (Telling, error) {
	best := Telling{Told: make([]bool, len(steps))}
	seen := map[string]string{} // versions by id
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	var lastErr error
	for {
		better, err := ask(ctx, stories, since, steps, seen, best)
		switch {
		case err == nil:
			best, lastErr = better, nil
		case ctx.Err() == nil:
			lastErr = err
		}
		if best.Complete() {
			return best, nil
		}
		select {
		case <-ctx.Done():
			if best.Story == nil && lastErr != nil {
				return best, fmt.Errorf("ask for stories: %w", lastErr)
			}
			return best, nil
		case <-tick.C:
		}
	}
}

// ask looks once at every story that has changed.
func ask(ctx context.Context, stories Stories, since time.Time, steps []Step, seen map[string]string, best Telling) (Telling, error) {
	heads, err := stories.ListStories(ctx, connect.NewRequest(&clewv1.ListStoriesRequest{Limit: 500}))
	if err != nil {
		return best, err
	}
	for _, head := range heads.Msg.GetItems() {
		if head.GetLastSeen().AsTime().Before(since) || (seen[head.GetId()] == head.GetVersion() && head.GetVersion() != "") {
			continue
		}
		resp, err := stories.GetStory(ctx, connect.NewRequest(&clewv1.GetStoryRequest{Id: head.GetId(), Budget: wholeGraph}))
		if err != nil {
			return best, err
		}
		story := resp.Msg.GetStory()
		seen[head.GetId()] = head.GetVersion()
		t, err := tell(story, steps)
		if err != nil {
			return best, err
		}
		// The story that was best so far may have been told anew.
		if n := t.count(); n > best.count() || (n > 0 && best.Story.GetId() == story.GetId()) {
			best = t
		}
	}
	return best, nil
}

// tell looks for each step's marker in what the API says of a story.
func tell(story *clewv1.Story, steps []Step) (Telling, error) {
	text, err := protojson.Marshal(story)
	if err != nil {
		return Telling{}, fmt.Errorf("story %s as JSON: %w", story.GetId(), err)
	}
	t := Telling{Story: story, Told: make([]bool, len(steps))}
	for i, s := range steps {
		marker, err := json.Marshal(s.Marker)
		if err != nil {
			return Telling{}, err
		}
		t.Told[i] = bytes.Contains(text, marker[1:len(marker)-1])
	}
	return t, nil
}

package httpapi

import (
	"net/http"
	"slices"

	"disc/agent/access"
	"disc/discovery"
)

func (a *API) nodeRoutes() []route {
	return []route{{method: "GET", path: "/v1/nodes", params: slices.Clone(waitParams), scope: access.Read, handle: a.nodes}}
}

func (a *API) nodes(w http.ResponseWriter, r request) error {
	view, index, err := a.awaitView(r, nodesSubject, discovery.Scope{})
	if err != nil {
		return err
	}
	list := slices.AppendSeq([]*discovery.Node{}, view.Snapshot.Nodes())
	return a.reply(w, r, view, index, list)
}

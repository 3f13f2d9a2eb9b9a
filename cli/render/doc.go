// Package render turns templates into files, from what an agent answers.
//
// Templates are Go's (text/template), with the functions that users of consul-template
// know: service, services, instances, nodes, env, join, split, toLower, toUpper,
// replaceAll, toJSON, contains and in. What they return is in a fixed order, so that a
// file changes only when the fleet does.
//
//	t, err := render.Parse("nginx.ctmpl", text)
//	content, err := t.Execute(ctx, source)
//	changed, err := render.Write("/etc/nginx/upstream.conf", content)
package render

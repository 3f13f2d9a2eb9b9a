// Package render turns templates into files, from what an agent answers.
//
// Templates are Go's (text/template), with the functions that users of consul-template
// know; see [Parse]. What they return is in a fixed order, so that a file changes only
// when the fleet does.
//
//	t, err := render.Parse("nginx.ctmpl", text)
//	content, err := t.Execute(ctx, source)
//	changed, err := render.Write("/etc/nginx/upstream.conf", content)
//
// What is to follow a change of a file is run by a [Runner].
package render

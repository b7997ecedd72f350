"""An HTTP server and a page that restore photographs; needs `pip install 'deblur-jax[serve]'`.

A request goes through `gate` (keys, sizes, headers), `app` (routes), `uploads` (the files of a
request) and `service` (cache, jobs) to the one thread in `worker` that computes. The picture is
restored and written by `photos.restore.restore_file`, as by `deblur-jax restore`.
"""

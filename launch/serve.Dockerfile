# The server in a container; the CPU version.
#
#   docker build -f launch/serve.Dockerfile -t deblur-jax .
#   docker run -p 8000:8000 -v deblur-data:/data deblur-jax
#
# For a GPU, install '.[serve,heif,cuda]' and run with --gpus all.
FROM python:3.12-slim

RUN useradd --create-home deblur && mkdir /data && chown deblur /data
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir '.[serve,heif]'

USER deblur
WORKDIR /home/deblur
ENV JAX_COMPILATION_CACHE_DIR=/data/compiled
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=300s CMD \
  python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"
# exec form, so that SIGTERM reaches the server, which then answers what it has accepted.
ENTRYPOINT ["deblur-jax", "serve", "--host", "0.0.0.0", "--data", "/data/state"]

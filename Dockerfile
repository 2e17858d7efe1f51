# ferlightning on a CPU: docker build -t ferlightning . ; then, with your data and results in the working folder,
#   docker run --rm -v "$PWD:/data" ferlightning fit --config quickstart
#   docker run --rm -v "$PWD:/data" ferlightning recognize PHOTOS --format=csv
FROM python:3.12-slim

# OpenCV without windows needs no more than what the image has. Torch for CPUs alone is a tenth of the one with CUDA: torch's page
# "Get started" has pip's options for it; give them to docker build as the build argument TORCH_FROM.
ARG TORCH_FROM=""
RUN pip install --no-cache-dir torch torchvision $TORCH_FROM
COPY . /src
RUN pip install --no-cache-dir "/src[export,bench,parquet]" && rm -r /src

# Not root; the cache is in the working folder, so that it outlives the container.
RUN useradd --create-home ferl
USER ferl
WORKDIR /data
ENV FERL_CACHE=/data/.ferl-cache
ENTRYPOINT ["ferl"]
CMD ["--help"]

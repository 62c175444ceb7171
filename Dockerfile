# The hosted dashboard: hub models and the shipped demo, no local folders. What it reads from the environment: README.
FROM python:3.11-slim
RUN useradd --create-home --uid 1000 user && install --directory --owner=user /data
USER user
# The proxy in front has a private address: the visitor's own is in the header it adds.
ENV PATH=/home/user/.local/bin:$PATH \
    RLVIZ_MODE=hosted \
    RLVIZ_STORE=/data \
    HF_HUB_DISABLE_TELEMETRY=1 \
    FORWARDED_ALLOW_IPS=127.0.0.1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16
WORKDIR /home/user/app
COPY --chown=user requirements.txt .
RUN pip install --no-cache-dir --user -r requirements.txt
COPY --chown=user . .
RUN python -c "from rlviz.probes.coordinate import warm; warm()"
EXPOSE 8501
# Any unknown path answers 200 with the page itself, so the body must be looked at.
HEALTHCHECK --start-period=60s CMD python -c "import urllib.request as u; assert u.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=5).read() == b'ok'"
CMD ["python", "-m", "streamlit", "run", "asgi.py", "--server.port=8501", "--server.address=0.0.0.0", \
     "--server.headless=true", "--client.showErrorDetails=none"]
